"""The real-time loop: where frames come from, what is drawn on them, where they go."""
