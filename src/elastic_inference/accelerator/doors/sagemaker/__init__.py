"""The HTTP interface of a SageMaker inference container."""
