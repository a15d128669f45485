"""Models: one paper a file; each reads features by keyword and answers scores."""

from avel.models.base import Answer, Batch, Model, ModelCard, Recipe, build_model, models

__all__ = ["Answer", "Batch", "Model", "ModelCard", "Recipe", "build_model", "models"]
