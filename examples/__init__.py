"""Networks and programs that show edgec at work."""
