"""The registry of recipes: how a world of each kind is trained."""

from wm_gym.models.kinds import plug_in
from wm_gym.training.keypoints.stages import RECIPE as KEYPOINTS
from wm_gym.training.memory.stages import RECIPE as MEMORY
from wm_gym.training.recipe import Recipe, Training

_RECIPES = {recipe.kind: recipe for recipe in (KEYPOINTS, MEMORY)}


def register_recipe(recipe: Recipe) -> None:
    """Make `wm-gym train` know how to train this kind. Registering anew replaces it."""
    _RECIPES[recipe.kind] = recipe


def recipes() -> list[Recipe]:
    """The default kind's first."""
    plug_in()
    return list(_RECIPES.values())


def recipe_of(settings: Training) -> Recipe:
    for recipe in _RECIPES.values():
        if recipe.settings is type(settings):
            return recipe
    raise TypeError(
        f"nobody registered how to train with {type(settings).__name__}, expected settings of "
        f"{[recipe.settings.__name__ for recipe in _RECIPES.values()]}; see register_recipe"
    )
