"""Images for the experiments: from installed packages, fonts, and folders in the layouts of the data sets."""
