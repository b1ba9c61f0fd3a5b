"""How worlds with a memory are trained."""
