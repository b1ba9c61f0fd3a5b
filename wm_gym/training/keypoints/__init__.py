"""How keypoint worlds are trained."""
