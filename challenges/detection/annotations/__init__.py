"""Annotation files of other tools, read and mended: COCO, Pascal VOC, YOLO."""
