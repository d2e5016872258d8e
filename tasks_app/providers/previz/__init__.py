"""The built-in renderer: the animatic that film people cut before a shot is made.

`provider` runs in the worker; everything else runs in a child process. No picture, voice or music
is made by a model trained on other people's films: scenes are drawn, scores are synthesised, and
every file is marked PREVIZ.
"""

NAME = "previz"
#: To be raised whenever the same seed gives another picture.
MODEL = "previz-2"
