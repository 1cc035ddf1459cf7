"""The planted taste behind the demo interactions: who likes which genre, and which film follows which.

A user's next film is, with probability FOLLOW, the next part of the series that the last film belongs to, if there is
one and it is unseen. Otherwise the user stays with the last film's genre (probability STAY) or picks one by a taste
that drifts, over the history, from one mixture of genres to another; then an unseen film of it by its popularity.
"""

from dataclasses import dataclass

import numpy as np

GENRES = ("Mystery", "Space", "Western", "Comedy", "Romance", "Nature", "Heist", "Fantasy", "Music", "Sport")
SERIES_PER_GENRE = 10
PARTS = 5
NUM_ITEMS = len(GENRES) * SERIES_PER_GENRE * PARTS
NUM_USERS = 1200
SHORTEST = 16
MEAN_FURTHER = 21.0
LONGEST = 90
FOLLOW = 0.45
STAY = 0.25
FOCUS = 0.35  # concentration of the genre mixtures: small means few genres per user
PART_OF = np.arange(NUM_ITEMS) % PARTS
GENRE_OF = np.arange(NUM_ITEMS) // (SERIES_PER_GENRE * PARTS)


@dataclass(frozen=True, eq=False)
class Taste:
    """What the interactions are drawn from.

    popularity: (item,) sums to 1 within each genre. early, late: (user, genre) mixtures at a history's two ends.
    lengths:    (user,) how many films each user watches.
    """

    popularity: np.ndarray
    early: np.ndarray
    late: np.ndarray
    lengths: np.ndarray

    def mixture(self, step: int) -> np.ndarray:
        """(user, genre): the taste when `step` films have been watched."""
        share = np.clip(step / np.maximum(self.lengths - 1, 1), 0, 1)[:, None]
        taste: np.ndarray = (1 - share) * self.early + share * self.late
        return taste

    def next_probabilities(self, step: int, last: np.ndarray, seen: np.ndarray) -> np.ndarray:
        """(user, item): the probability of each film to be the next.

        last: (user,) the film before, -1 at the start. seen: (user, item) bool; those have probability 0.
        """
        users = np.arange(len(last))
        genre = self.mixture(step)
        started = last >= 0
        stayed = np.zeros_like(genre)
        stayed[users[started], GENRE_OF[last[started]]] = 1
        genre = np.where(started[:, None], STAY * stayed + (1 - STAY) * genre, genre)
        weights = np.where(seen, 0.0, self.popularity)
        per_genre = np.add.reduceat(weights, np.flatnonzero(np.diff(GENRE_OF, prepend=-1)), axis=1)
        genre = np.where(per_genre > 0, genre, 0.0)
        genre /= genre.sum(axis=1, keepdims=True)
        probabilities = weights * (genre / np.maximum(per_genre, 1e-300))[:, GENRE_OF]
        following = last + 1
        follows = started & (PART_OF[last] < PARTS - 1)
        follows[follows] = ~seen[users[follows], following[follows]]
        probabilities[follows] *= 1 - FOLLOW
        probabilities[users[follows], following[follows]] += FOLLOW
        return probabilities


def draw_taste(random: np.random.Generator, num_users: int = NUM_USERS) -> Taste:
    genres = len(GENRES)
    ranks = np.stack([random.permutation(NUM_ITEMS // genres) for _ in range(genres)]).ravel()
    popularity = 1 / (ranks + 3.0)
    popularity /= np.bincount(GENRE_OF, popularity)[GENRE_OF]
    liked = FOCUS * genres * random.dirichlet(np.full(genres, 4.0))
    early, late = (random.dirichlet(liked, num_users) for _ in range(2))
    further = random.geometric(1 / MEAN_FURTHER, num_users)
    return Taste(popularity, early, (early + late) / 2, np.minimum(SHORTEST + further, LONGEST))


@dataclass(frozen=True, eq=False)
class Watched:
    """Histories drawn from a taste, and the truth about each user's last film.

    table: (user, step) films, -1 past the end. last_probabilities: (user, item), of the film that came last.
    """

    table: np.ndarray
    last_probabilities: np.ndarray


def watch(taste: Taste, random: np.random.Generator) -> Watched:
    """Let every user watch films, all users one step at a time."""
    users = len(taste.lengths)
    seen = np.zeros((users, NUM_ITEMS), bool)
    last = np.full(users, -1)
    table = np.full((users, int(taste.lengths.max())), -1)
    truth = np.zeros((users, NUM_ITEMS))
    for step in range(table.shape[1]):
        active = np.flatnonzero(taste.lengths > step)
        part = Taste(taste.popularity, taste.early[active], taste.late[active], taste.lengths[active])
        probabilities = part.next_probabilities(step, last[active], seen[active])
        ending = taste.lengths[active] == step + 1
        truth[active[ending]] = probabilities[ending]
        cumulative = np.cumsum(probabilities, axis=1)
        drawn = random.random(len(active))[:, None] * cumulative[:, -1:]
        items = np.argmax(cumulative > drawn, axis=1)
        table[active, step] = last[active] = items
        seen[active, items] = True
    return Watched(table, truth)


def membership(taste: Taste, users: np.ndarray, told: np.ndarray) -> np.ndarray:
    """(user, item): about how likely each film is in a history of which a part is told.

    users: (user,) positions in the taste. told: (user, item) bool. A film is there because it was picked by taste, or
    because the part before it was watched, or it was what led to the part after it; treated as independent reasons.
    """
    mixture = (taste.early[users] + taste.late[users]) / 2
    picks = taste.lengths[users] * (1 - FOLLOW * (PARTS - 1) / PARTS)
    picked = 1 - np.exp(-picks[:, None] * mixture[:, GENRE_OF] * taste.popularity)
    before, after = np.zeros_like(told), np.zeros_like(told)
    before[:, 1:] = told[:, :-1] & (PART_OF[1:] > 0)
    after[:, :-1] = told[:, 1:] & (PART_OF[:-1] < PARTS - 1)
    next_picked = np.roll(picked, -1, axis=1)
    led = FOLLOW * picked / np.maximum(FOLLOW * picked + next_picked, 1e-12)
    chances: np.ndarray = 1 - (1 - picked) * (1 - FOLLOW * before) * (1 - led * after)
    return chances
