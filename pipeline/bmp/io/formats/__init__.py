"""Files of other programs about people in videos, written and read, one file a format; knows no network and no loop."""
