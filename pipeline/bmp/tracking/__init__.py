"""Who is who from frame to frame: matching, appearance, scene cuts, retirement. Knows records, no stage and no file.

What the loop over a video decides by numbers alone lies here, beside ``ops``, which knows no person, and apart from
``trackers``, which holds the backends of a role.
"""
