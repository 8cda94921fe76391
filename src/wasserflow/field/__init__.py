"""What moves a particle: fields of a density ratio, of the target's points, of its score; by class or by name."""

from wasserflow.field.by_name import make_field

__all__ = ["make_field"]
