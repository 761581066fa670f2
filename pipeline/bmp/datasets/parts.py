"""The parts of a person that CIHP labels; SynthCrowd has the same. Knows no file and no picture."""

CIHP_PARTS = (
    "background",
    "hat",
    "hair",
    "glove",
    "sunglasses",
    "upper clothes",
    "dress",
    "coat",
    "socks",
    "pants",
    "torso skin",
    "scarf",
    "skirt",
    "face",
    "left arm",
    "right arm",
    "left leg",
    "right leg",
    "left shoe",
    "right shoe",
)
"""What the numbers of CIHP's category maps mean: each name stands at its number."""
