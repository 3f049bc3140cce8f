"""Training at home: data set, network, local update, baseline, calibration."""
