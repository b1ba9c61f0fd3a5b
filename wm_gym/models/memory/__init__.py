"""Worlds as one vector a picture and a recurrent memory of them: pictures of any kind, seen by a
camera that may move, with things that go out of sight and come back.

Nothing outside this folder knows what its states are.
"""
