"""The calling side: EIPredictor and its connection. numpy and the standard library alone."""
