"""What each stage of training learns, from what, and how it is judged."""
