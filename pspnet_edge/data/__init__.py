"""Images and masks as numpy arrays: data sets, procedural scenes, augmentation, calibration sets."""
