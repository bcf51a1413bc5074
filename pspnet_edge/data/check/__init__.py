"""Looking through a data set for what is wrong with it, loudly or silently."""

from .findings import Finding, Findings, SplitCount, few_of_each_kind
from .page import write_page
from .quick import quick_check
from .run import check_dataset

__all__ = ["Finding", "Findings", "SplitCount", "check_dataset", "few_of_each_kind", "quick_check", "write_page"]
