"""All methods on one problem at equal cost."""
