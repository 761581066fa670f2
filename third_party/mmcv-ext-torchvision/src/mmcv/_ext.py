"""mmcv's operator module `mmcv._ext`, written with torch and torchvision; it knows nothing of any model.

It stays out of the way of a compiled mmcv: that one's `_ext` is an extension module in the same folder, and Python's
import system takes an extension module before a `.py` file of the same name.
"""

from mmcv_ext_torchvision import OPERATORS

globals().update(OPERATORS)
