"""What both wings stand on: files, hardware, documents, the look of figures."""
