"""What is known of each viewer: action sequence, relations, what was seen and served."""
