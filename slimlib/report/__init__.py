"""Tables, figures and notebook displays, made from records."""
