"""Judging a run on other interactions: who is told what and asked for what, against a plain slow version."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from challenges.recommendation.bert4rec.challenge import CHALLENGE as BERT4REC
from challenges.recommendation.files.readers import read
from challenges.recommendation.histories import held_out
from challenges.recommendation.histories.check import check
from challenges.recommendation.histories.histories import HistorySplit
from challenges.recommendation.histories.recipes import HistoryConfig
from challenges.recommendation.ncf.challenge import CHALLENGE as NCF
from challenges.recommendation.vae_cf.challenge import CHALLENGE as VAE_CF
from common.errors import DataError
from common.terminal.console import SafeConsole

CPU = torch.device("cpu")
LAST, LOT, LATER = "leave-one-out", "held-out-users", "global-time"
CONFIGS = {
    LAST: HistoryConfig(tuning_from=1),
    LOT: HistoryConfig(protocol=LOT, held_out_users=6),
    LATER: HistoryConfig(protocol=LATER, test_share=0.2),
}


def table(path, rows):
    path.write_text("user,item,time\n" + "".join(f"{user},{item},{time}\n" for user, item, time in rows))
    return path


@pytest.fixture(scope="module")
def own(tmp_path_factory):
    """Forty users with six to thirteen of thirty items in the order of time."""
    random = np.random.default_rng(0)
    rows = [
        (f"u{user}", f"i{item}", 100 * time + user)
        for user in range(40)
        for time, item in enumerate(random.permutation(30)[: 6 + user % 8])
    ]
    return table(tmp_path_factory.mktemp("own") / "x.csv", rows)


@pytest.fixture(scope="module")
def others(tmp_path_factory):
    """Known and new users, with repeated, new and unknown items, one item or eleven, the lines in no order."""
    random = np.random.default_rng(1)
    rows = [
        (f"u{user}", f"i{item}", 9000 + time)
        for user in range(25, 60)
        for time, item in enumerate(random.permutation(36)[: 1 + user % 12])
    ]
    return table(tmp_path_factory.mktemp("others") / "y.csv", [rows[place] for place in random.permutation(len(rows))])


def lines(path):
    return [(user, item, int(time)) for user, item, time in (line.split(",") for line in path.read_text().split()[1:])]


def slowly(learnt: HistorySplit, rows, by_user):
    """User -> what is told and what may be asked for, in names; everything by looping."""
    names = lambda items: [str(learnt.item_ids[item]) for item in items]  # noqa: E731
    train = {str(user): names(learnt.train.of(place)) for place, user in enumerate(learnt.user_ids)}
    whole = {user: list(items) for user, items in train.items()}
    for place, user in enumerate(learnt.users):
        if user >= 0:
            whole[str(learnt.user_ids[user])] = names(learnt.seen.of(place)) + names(learnt.targets.of(place))
    answer = {}
    for user in dict.fromkeys(row[0] for row in rows):
        mine = [item for _, item, _ in sorted((row for row in rows if row[0] == user), key=lambda row: row[2])]
        mine = [item for item in mine if item in learnt.item_ids.tolist() and item not in train.get(user, [])]
        before = [item for item in whole.get(user, []) if item not in mine]
        if not mine or (by_user and user not in train):
            continue
        if learnt.protocol == LAST and before + mine[:-1]:
            answer[user] = (before + mine[:-1], mine[-1:])
        elif learnt.protocol == LOT and user not in train:
            answer[user] = (mine, None)  # by lot
        elif learnt.protocol != LAST and user in train:
            answer[user] = (before, mine)
    return answer


@pytest.mark.parametrize("by_user", [False, True])
@pytest.mark.parametrize("protocol", [LAST, LOT, LATER])
def test_users_are_told_and_asked_as_a_plain_loop_says(protocol, by_user, own, others, tmp_path):
    config = CONFIGS[protocol]
    learnt = check(own, tmp_path, config).split
    split = held_out.judged_by(read(others), learnt, config, "x", by_user=by_user).split
    expected = slowly(learnt, lines(others), by_user)
    users = sorted(user for user, (told, asked) in expected.items() if asked or len(told) >= 5)
    assert split.num_judged == len(users) > 5
    assert (split.num_items, split.num_users) == (learnt.num_items, learnt.num_users)
    positions = learnt.user_ids.tolist()
    for place, user in enumerate(users):
        told, asked = ([str(split.item_ids[item]) for item in part.of(place)] for part in (split.seen, split.targets))
        if expected[user][1] is None:  # a fifth, rounded down, of what there is, in no order
            assert sorted(told + asked) == sorted(expected[user][0])
            assert len(asked) == int(0.2 * len(told + asked))
        else:
            assert (told, sorted(asked)) == (expected[user][0], sorted(expected[user][1]))
        assert split.users[place] == (positions.index(user) if user in positions else -1)


def test_what_the_run_never_saw_and_who_cannot_be_asked_are_counted(own, others, tmp_path):
    learnt = check(own, tmp_path, CONFIGS[LAST]).split
    first, second = held_out.judged_by(read(others), learnt, CONFIGS[LAST], "x", by_user=True).warnings
    unknown = [item for _, item, _ in lines(others) if item not in learnt.item_ids]
    assert f"{len(unknown)} interactions are left out: their {len(set(unknown))} items, such as 'i3" in first
    assert "20 are new: this model knows the users of its training data alone" in second


def test_the_data_of_a_run_judges_it_by_what_it_held_out(own, tmp_path):
    learnt = check(own, tmp_path, CONFIGS[LAST]).split
    split = held_out.judged_by(read(own), learnt, CONFIGS[LAST], "x", by_user=False).split
    for part in ("seen", "targets"):
        assert getattr(split, part).items.tolist() == getattr(learnt, part).items.tolist()
    assert split.users.tolist() == learnt.users.tolist()


def test_an_official_test_file_is_what_is_asked_for(tmp_path):
    for name, text in {
        "x.train.rating": "".join(
            f"{user}\t{item}\t1\t{item}\n" for user in range(4) for item in range(user, user + 3)
        ),
        "x.test.rating": "".join(f"{user}\t{user + 4}\t1\t9\n" for user in range(4)),
        "x.test.negative": "".join(f"({user},{user + 4})\t{user + 3}\n" for user in range(4)),
    }.items():
        (tmp_path / name).write_text(text)
    learnt = check(tmp_path, tmp_path / "out", HistoryConfig()).split
    split = held_out.judged_by(read(tmp_path), learnt, HistoryConfig(), "x", by_user=True).split
    assert split.targets.items.tolist() == learnt.targets.items.tolist()
    assert split.seen.items.tolist() == learnt.seen.items.tolist()


@pytest.mark.parametrize("challenge", [NCF, VAE_CF, BERT4REC], ids=lambda challenge: challenge.model)
def test_every_model_ranks_the_items_that_are_asked_for(challenge, own, others, tmp_path):
    recipe = challenge.recipes["own"]
    recipe = replace(recipe, history=replace(recipe.history, minimum_per_user=1, held_out_share=0.2))
    run = SimpleNamespace(data=tmp_path / "run")
    check(own, run.data, recipe.history)
    found = challenge.check_test(others, run, recipe, tmp_path / "test", SafeConsole(quiet=True))
    data = challenge.open_data(recipe, tmp_path / "test", CPU)
    torch.manual_seed(0)
    task = challenge.build_task(recipe, data).eval()
    split = data.split
    assert found.summary["samples"] == split.num_judged
    with torch.no_grad():
        predictions = task.evaluate(data.validation_batches()).predictions
        module = task.inference_module()
        for place in range(split.num_judged):
            asked = challenge.questions.of_judged(split, np.array([place]))
            items, _ = module(**{name: torch.as_tensor(array) for name, array in asked.items()})
            assert predictions["top_items"][place].tolist() == items[0].tolist()
            if split.protocol == LAST and predictions["rank"][place] < 10:
                assert items[0, predictions["rank"][place]] == split.targets.of(place)[0]


def test_an_unchanged_file_is_not_read_again(own, others, tmp_path, monkeypatch):
    config = CONFIGS[LAST]
    learnt = check(own, tmp_path / "run", config).split
    first = held_out.check(others, tmp_path / "out", learnt, config, by_user=False)
    assert first.fingerprint != held_out.check(others, tmp_path / "out", learnt, config, by_user=True).fingerprint
    held_out.check(others, tmp_path / "out", learnt, config, by_user=False)
    monkeypatch.setattr(held_out, "read", lambda source: pytest.fail("read again"))
    assert held_out.check(others, tmp_path / "out", learnt, config, by_user=False) == first


@pytest.mark.parametrize(
    ("rows", "by_user", "told"),
    [
        ([("new", "i1", 1), ("new", "i2", 2)], True, r"1 are new: this model knows.*The run knows 40 users.*vae_cf"),
        ([("u1", "x", 1)], False, r"1 items, such as 'x', are not in the catalogue.*knows 30 items, such as i0"),
        ([("new", "i1", 1)], False, "1 are new: too few items to tell some and ask"),
    ],
)
def test_nobody_to_judge_is_refused_with_the_reason(rows, by_user, told, own, tmp_path):
    learnt = check(own, tmp_path / "run", CONFIGS[LAST]).split
    with pytest.raises(DataError, match=f"(?s)nobody whom this run can be judged by.*{told}") as caught:
        held_out.check(table(tmp_path / "y.csv", rows), tmp_path / "out", learnt, CONFIGS[LAST], by_user=by_user)
    assert len(str(caught.value).splitlines()) == 3
