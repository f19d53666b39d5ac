"""The forms in which a corpus may be stored, recognised by content. The rest of the package sees only `opened`."""

from mdlm_data.forms.item import Counts, Item, Options, TokenRule
from mdlm_data.forms.table import expanded, opened

__all__ = ["Counts", "Item", "Options", "TokenRule", "expanded", "opened"]
