"""Whether two ways of computing a model agree: comparison, samples and the proof that is kept. Runs nothing."""
