"""The built-in renderer: the animatic that film people cut before a shot is made.

`provider` is the parent's side; everything else runs in a child process. No picture,
voice or note here is made by a model that was fed other people's films: scenes are
drawn, scores are synthesised, and the files say PREVIZ.
"""

NAME = "previz"
#: Raised when the same seed would give another picture.
MODEL = "previz-2"
