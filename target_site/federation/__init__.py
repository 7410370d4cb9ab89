"""This site as one of a fleet: Flower brings it the bundle that was sealed to it, and takes its signed receipt back."""
