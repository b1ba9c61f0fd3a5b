"""Worlds as keypoints: what a picture shows, as a few places on it, and their changes by diffusion.

The kind of world model that is packaged. Nothing outside this folder knows what its states are.
"""
