"""Walk-forward folds, the Optuna study of each fold, and the exact solver of forecast levels."""
