"""The crash matrix: warmd killed at every point of everything it does, and looked at by somebody else.

``python -m tests.crash`` runs it; ``points`` names the points, ``child`` runs one warmd under injection,
``scenarios`` says what it is in the middle of, ``observer`` checks the promise afterwards.
"""
