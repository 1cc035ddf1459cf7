"""DLRM on a click log."""

from torch import nn

from challenges.recommendation.clicks.task import ClickTask
from challenges.recommendation.dlrm.network import Dlrm
from challenges.recommendation.dlrm.recipes import DlrmRecipe


class DlrmTask(ClickTask[DlrmRecipe]):
    """A click model whose network is DLRM."""

    def build_network(self) -> nn.Module:
        config = self.recipe.model
        return Dlrm(
            numbers=self.numbers.width,
            columns=self.tables.columns,
            width=self.tables.width,
            bottom=config.bottom,
            top=config.top,
            crosses=(config.cross_layers, config.cross_rank) if config.interaction == "dcnv2" else None,
            dropout=config.dropout,
        )
