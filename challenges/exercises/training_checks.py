"""Checks of how a run was trained and exported."""

from challenges.exercises.facts import Facts

MICRO_SHARE = 4  # micro-batches of a step that accumulating is asked for


def exported(facts: Facts) -> str:
    choice = facts.parity()["choice"]
    facts.demand(
        choice is not None and facts.run.report_file.is_file(),
        f"No engine of {facts.run.path} answered as the trained model does, or there is no report.",
        "The walk ends with an engine to serve and a page.",
    )
    return f"The run is trained, exported and proved; {choice['engine']} {choice['precision']} would serve it."


def eight_bits(facts: Facts) -> str:
    rows = [row for row in facts.parity()["rows"] if row["precision"] == "int8"]
    passed = [row for row in rows if not row["failures"]]
    reasons = "; ".join(dict.fromkeys(reason for row in rows for reason in row["failures"]))
    facts.demand(
        bool(passed),
        f"No engine answers in INT8 as the trained model does: {reasons or 'there is none'}.",
        "At least one has to stay within its tolerance.",
        facts.exercise.hint["en"].strip(),
    )
    return f"In INT8 {passed[0]['engine']} decides as the model does on {passed[0]['agreement']:.1%} of the samples."


def halved_rate(facts: Facts) -> str:
    own, used = facts.own("optimizer.peak_lr"), facts.used("optimizer.peak_lr")
    facts.demand(
        used <= own / 2,
        f"The learning rate of {facts.run.path} rises to {used:g}.",
        f"Half of the recipe's {own:g} is {own / 2:g}.",
    )
    return f"At {used:g} instead of {own:g} the run reached {facts.figure}."


def accumulated(facts: Facts) -> str:
    batch, micro = facts.used("training.batch_size"), facts.used("training.micro_batch")
    facts.demand(
        isinstance(micro, int) and micro * MICRO_SHARE <= batch and batch >= facts.own("training.batch_size"),
        f"A step of {facts.run.path} has {batch} samples, {micro} of them at once.",
        f"The recipe's batch stays, and one part in {MICRO_SHARE} of it, or fewer, is held at once.",
    )
    return f"Each step added up {batch // micro} parts of {micro} samples: {facts.figure}."


def checkpointed(facts: Facts) -> str:
    facts.demand(
        facts.used("training.gradient_checkpointing"),
        f"{facts.run.path} kept what every layer computed.",
        "Gradient checkpointing keeps some of it and computes the rest again.",
    )
    return "Layers were computed again for the backward pass."


def half_precision(facts: Facts) -> str:
    precision = facts.environment()["precision"]
    facts.demand(
        precision in ("bf16", "fp16"),
        f"{facts.run.path} was trained in {precision}.",
        "Mixed precision is bf16 or fp16.",
    )
    return f"It was trained in {precision}."


def shared_out(facts: Facts) -> str:
    size = facts.environment()["world_size"]
    facts.demand(
        size is not None and size > 1,
        f"{facts.run.path} was trained by one process.",
        "Two or more share a step here.",
    )
    return f"{size} processes shared each step: {facts.figure}."


def longer_history(facts: Facts) -> str:
    own, used = facts.own("model.length"), facts.used("model.length")
    facts.demand(
        used >= 2 * own,
        f"{facts.run.path} reads the last {used} items.",
        f"Twice as many as the recipe's {own} are asked for.",
    )
    return f"Reading {used} items instead of {own} the run reached {facts.figure}."


def rows_shared(facts: Facts) -> str:
    shard = facts.used("tables.shard")
    facts.demand(
        shard == "row",
        f"Every process of {facts.run.path} held all tables: tables.shard is {shard}.",
        "Each has to hold a share of the rows.",
    )
    return "The tables' rows were dealt out to the processes."
