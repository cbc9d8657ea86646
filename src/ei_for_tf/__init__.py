"""The import paths of Amazon Elastic Inference's package for TensorFlow; everything is elastic_inference's."""
