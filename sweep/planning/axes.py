"""What a study file may compare: the values of its axes."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BeforeValidator, Field, Strict, field_validator, model_validator
from pydantic_core import PydanticCustomError

from sweep.planning.model import Model, Name, no_item_twice, values_once
from sweep.planning.notation import as_volume

NONE = "none"  # the intermediate setting that is no intermediate phase: every cell's baseline
BETWEEN = " | "  # the parts of a cell's name
OWN = "own"  # the source language that is each task's own: what it is usually trained in, English in the table


class Shares(Model):
    """How a chain's budget is divided among the phases that it trains; where it trains one, that one gets all."""

    intermediate: Annotated[float, Strict(), Field(gt=0, lt=1)] = 0.5
    target: Annotated[float, Strict(), Field(gt=0, lt=1)] = 0.5

    @model_validator(mode="after")
    def _whole(self) -> Shares:
        if abs(self.intermediate + self.target - 1) > 1e-9:
            raise PydanticCustomError("shares", "two shares that are 1 together are expected")
        return self


class ChainBudget(Model):
    """FLOPs of training that each chain may spend on its intermediate and its target phase together."""

    flops: tuple[Annotated[float, Strict(), Field(gt=0)], ...]
    shares: Shares = Shares()

    @field_validator("flops", mode="after")
    @classmethod
    def _filled(cls, value: tuple[float, ...]) -> tuple[float, ...]:
        values_once(tuple(f"{flops:g}" for flops in value))  # as tables have them, and lengths of phases depend on them
        return value


class Axes(Model):
    """What the study compares."""

    encoder: tuple[Name, ...]
    intermediate: tuple[tuple[Name, ...], ...]  # () is `none`
    target: tuple[Name, ...]
    volume: tuple[Annotated[int | str, BeforeValidator(as_volume)], ...] = ("full",)
    source: tuple[Name, ...] = (OWN,)  # language of the intermediate tasks' training data: own, all, or a language
    chain_budget: ChainBudget | None = None  # says how long phases are, in place of their epochs or steps
    seed: tuple[Annotated[int, Strict(), Field(ge=0, lt=2**32)], ...]  # what numpy and torch take alike

    @field_validator("intermediate", mode="before")
    @classmethod
    def _settings(cls, value: object) -> object:
        if not isinstance(value, list):
            return value
        return [[] if item == NONE else [item] if isinstance(item, str) else item for item in value]

    @field_validator("intermediate", mode="after")
    @classmethod
    def _phases(cls, value: tuple[tuple[str, ...], ...]) -> tuple[tuple[str, ...], ...]:
        for tasks in value:
            if NONE in tasks:
                raise PydanticCustomError("none", "'none' alone, or tasks without it, are expected")
            if joined := [task for task in tasks if "+" in task]:
                wanted = "names without '+', which joins the tasks of a phase, are expected, {item} has one"
                raise PydanticCustomError("plus", wanted, {"item": joined[0]})
            no_item_twice(tasks)
        no_item_twice(["+".join(sorted(tasks)) or NONE for tasks in value])
        return value

    @field_validator("encoder", "intermediate", "target", "source", mode="after")
    @classmethod
    def _apart(cls, value: tuple[Any, ...]) -> tuple[Any, ...]:
        for name in (name for one in value for name in ([one] if isinstance(one, str) else one)):
            if BETWEEN in name:
                wanted = "names without '{between}', which stands between those of a cell, are expected, {item} has it"
                raise PydanticCustomError("bar", wanted, {"between": BETWEEN, "item": name})
        return value

    @field_validator("*", mode="after")
    @classmethod
    def _filled(cls, value: Any) -> Any:
        return values_once(value) if isinstance(value, tuple) else value
