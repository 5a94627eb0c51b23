"""The named studies as data, and how they are changed."""
