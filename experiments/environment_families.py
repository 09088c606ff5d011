"""Which environments share a datasheet, and what no table of the registry says about them."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Family:
    """Environments of one page.

    Attributes:
        page: name of the page without ending.
        title: its heading.
        ids: environments.
        pictured: the one in the picture, by default the first.
        ends: when an episode ends by itself.
        observation: what is observed, where no compiled class says so.
        action: what can be done, likewise.
        notes: further paragraphs, in Markdown.
        written: whether the page is generated; False for one written by hand.
    """

    page: str
    title: str
    ids: tuple[str, ...]
    pictured: str = ""
    ends: str = ""
    observation: str = ""
    action: str = ""
    notes: str = ""
    written: bool = True


def _joints(what: str) -> str:
    return f"Positions and velocities of the {what}, as Gymnasium orders them."


TORQUES = "Torques of the motors; beyond the bounds MuJoCo clips."

VERSIONS = """\
The ids of v4 and v5 pay on different scales, so their hypervolumes cannot be compared. Trajectories
depend on the version of MuJoCo; every result stores it.
"""

FAMILIES = (
    Family(
        page="deep-sea-treasure",
        title="Deep sea treasure",
        ids=(
            "deep-sea-treasure-v0",
            "deep-sea-treasure-concave-v0",
            "deep-sea-treasure-mirrored-v0",
        ),
        ends="With a treasure.",
        notes="The front is exact, see [exact fronts](exact-fronts.md#deep-sea-treasure-v0). "
        "Without discount one of the ten treasures of the convex map lies on the line between its "
        "neighbours: no weighted sum asks for it alone.",
    ),
    Family(
        page="fruit-tree",
        title="Fruit tree",
        ids=("fruit-tree-v0",),
        ends="With a fruit, after as many steps as the tree is deep.",
        notes="Trees of depth 5 and 7 come with `kwargs={'depth': 5}`. The front is exact, see "
        "[exact fronts](exact-fronts.md#fruit-tree-v0-depth-6).",
    ),
    Family(
        page="resource-gathering",
        title="Resource gathering",
        ids=("resource-gathering-v0",),
        ends="At home, or with death.",
        notes="MO-Gymnasium's own front misses the best plan, see "
        "[exact fronts](exact-fronts.md#resource-gathering-v0).",
    ),
    Family(
        page="four-room",
        title="Four rooms",
        ids=("four-room-v0",),
        ends="At the goal.",
        notes="Nothing but haste makes the objectives conflict: without discount one plan fetches "
        "all shapes. With discount the front is exact, see "
        "[exact fronts](exact-fronts.md#four-room-v0).",
    ),
    Family(
        page="breakable-bottles",
        title="Breakable bottles",
        ids=("breakable-bottles-v0",),
        ends="With the second bottle delivered.",
    ),
    Family(
        page="fishwood",
        title="Fishwood",
        ids=("fishwood-v0",),
        ends="After 200 steps.",
        notes="A step at the river brings a fish with probability 0.1, one in the woods brings "
        "wood with 0.9, so expected returns lie on a line. The environment was made for utilities "
        "that need both at once.",
    ),
    Family(
        page="minecart",
        title="Minecart",
        ids=("minecart-v0", "minecart-deterministic-v0", "minecart-rgb-v0"),
        pictured="minecart-deterministic-v0",
        ends="When the cart is back at the base, having left it.",
        notes="No exact front is known: positions are continuous. MO-Gymnasium declares one made "
        "of straight trips at mean yields; we keep a better one for the deterministic mines, see "
        "[exact fronts](exact-fronts.md#minecart-deterministic-v0). MO-Gymnasium draws ore from "
        "NumPy's global generator, so that its seeds decide nothing; here each environment has its "
        "own. The image variant is MO-Gymnasium's and not reproducible.",
    ),
    Family(
        page="mountain-car",
        title="Mountain car",
        ids=(
            "mo-mountaincar-timemove-v0",
            "mo-mountaincar-timespeed-v0",
            "mo-mountaincar-v0",
            "mo-mountaincar-3d-v0",
            "mo-mountaincarcontinuous-v0",
        ),
        ends="At the top of the right hill.",
    ),
    Family(
        page="water-reservoir",
        title="Water reservoir",
        ids=("water-reservoir-v0",),
        ends="After `time_limit` steps, 100 unless asked otherwise.",
        notes="`kwargs={'nO': 4}` asks for up to four objectives.",
    ),
    Family(
        page="building",
        title="Building",
        ids=("building-3d-v0", "building-9d-v0"),
        written=False,
    ),
    Family(
        page="mec-offloading",
        title="Offloading",
        ids=("mec-offloading-v0",),
        ends="After 100 steps, as a true end: tasks that are still computed are paid for in full.",
        notes="System model of Yang et al. ([arXiv:2509.10474](https://arxiv.org/abs/2509.10474)). "
        "[GMORL and the offloading benchmark](../offloading.md) has the model, the arguments of "
        "the constructor, the reference points by number of edge servers, what differs from the "
        "released code, and results.",
    ),
    Family(
        page="lunar-lander",
        title="Lunar lander",
        ids=("mo-lunar-lander-v3", "mo-lunar-lander-continuous-v3"),
        observation="Position, velocity, angle and angular velocity of the lander, and whether "
        "each leg touches the ground.",
        action="Nothing, left, main or right engine; or throttle of the main and side engines.",
        ends="With a crash, out of the window, or at rest.",
    ),
    Family(
        page="highway",
        title="Highway",
        ids=("mo-highway-fast-v0", "mo-highway-v0"),
        observation="Presence, position and velocity of five cars, one's own first.",
        action="Lane to the left, nothing, lane to the right, faster, slower.",
        ends="With a collision, or after the duration in its configuration.",
        notes="Written in Python with a simulation inside: a few steps a second.",
    ),
    Family(
        page="super-mario",
        title="Super Mario Bros",
        ids=("mo-supermario-v0",),
        observation="Pixels.",
        action="Buttons of the controller.",
        ends="With a death or at the flag.",
        notes="Listed for completeness: gym-super-mario-bros and nes-py need NumPy below 2.",
    ),
    Family(
        page="hopper",
        title="Hopper",
        ids=("mo-hopper-2d-v4", "mo-hopper-2obj-v5", "mo-hopper-v4", "mo-hopper-v5"),
        observation=_joints("torso and the three joints, without the position along x"),
        action=TORQUES,
        ends="When it falls: torso too low, too tilted, or joints out of range.",
        notes=VERSIONS,
    ),
    Family(
        page="half-cheetah",
        title="Half-cheetah",
        ids=("mo-halfcheetah-v4", "mo-halfcheetah-v5"),
        observation=_joints("torso and the six joints, without the position along x"),
        action=TORQUES,
        ends="Never.",
        notes=VERSIONS,
    ),
    Family(
        page="walker2d",
        title="Walker",
        ids=("mo-walker2d-v4", "mo-walker2d-v5"),
        observation=_joints("torso and the six joints, without the position along x"),
        action=TORQUES,
        ends="When it falls: torso too low, too high or too tilted.",
        notes=VERSIONS,
    ),
    Family(
        page="ant",
        title="Ant",
        ids=("mo-ant-2d-v4", "mo-ant-2obj-v5", "mo-ant-v4", "mo-ant-v5"),
        observation=_joints("torso and the eight joints, without x and y; v5 adds contact forces"),
        action=TORQUES,
        ends="When the torso is lower than 0.2 or higher than 1.",
        notes=VERSIONS + "Published figures of C-MORL use the v4 ids with a step limit of 500: "
        '`make_task("mo-ant-v4", horizon=500)`.\n',
    ),
    Family(
        page="swimmer",
        title="Swimmer",
        ids=("mo-swimmer-v4", "mo-swimmer-v5"),
        observation=_joints("body and the two joints, without x and y"),
        action=TORQUES,
        ends="Never.",
        notes=VERSIONS,
    ),
    Family(
        page="humanoid",
        title="Humanoid",
        ids=("mo-humanoid-v4", "mo-humanoid-v5"),
        observation=_joints("torso and the 17 joints, with inertias, velocities and forces"),
        action=TORQUES,
        ends="When the torso is lower than 1 or higher than 2.",
        notes=VERSIONS,
    ),
    Family(
        page="reacher",
        title="Reacher",
        ids=("mo-reacher-v4", "mo-reacher-v5"),
        observation="Sines and cosines of the two joints, and their velocities.",
        action="Each joint is turned forwards, backwards, or not at all.",
        ends="Never; cut after 50 steps.",
        notes=VERSIONS,
    ),
)
"""Every environment of the suite, in the order of the index."""
