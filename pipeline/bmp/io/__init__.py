"""What reads and writes files: pictures, COCO JSON, journals. Knows no network and no stage."""
