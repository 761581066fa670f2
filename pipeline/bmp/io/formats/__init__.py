"""Files of other programs about people in videos, written and read, one file a format; knows no network and no loop."""

FORMATS = {"coco": "people.json", "vis": "vis.json", "mots": "mots", "mot": "mot", "posetrack": "posetrack"}
"""By name the file or folder of each format; in folders there is a file for each video."""
