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
        page="linear-quadratic",
        title="Linear-quadratic control",
        ids=("linear-quadratic-v0",),
        ends="Never by itself.",
        notes="`num_objectives` (2 to 8) and `overlap` (how much objectives have in common) are "
        "arguments of the environment. Costs are convex in the controls, so the front is convex, "
        "and a Riccati recursion gives it exactly; the stored points are optima of 1,001 weights "
        "for two objectives and of 1,771 for four. What a policy that does not know the time loses "
        "towards the end of an episode is below half a percent.",
    ),
    Family(
        page="random-momdp",
        title="Random finite problems",
        ids=("random-momdp-v0",),
        ends="At a leaf, a treasure, the last layer or the end of the chain.",
        notes="A benchmark family of its own: `kwargs={'seed': 7}` draws a problem, "
        "`kwargs={'seed': 7, 'kind': 'grid', 'num_objectives': 3}` decides more of it. Kinds "
        "are `layered` (a graph of layers, observed as arbitrary codes), `grid` (treasures "
        "and dangers, observed as coordinates), `chain` (stochastic, observed as codes) and "
        "`tree` (leaves on a concave front, observed as depth and position); without a kind, "
        "the seed modulo four decides. Codes and coordinates want different encodings, "
        "concave fronts want more than weighted sums, and chance wants averages, so that "
        "settings which do well on the family seldom fail elsewhere. Every front is exact, by "
        "backward induction. In a chain, some points need a policy that remembers its past. "
        "Seeds 0 to 19 are meant for the choice of settings, seeds 100 to 119 for reports.",
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
        page="hypergrid",
        title="Hypergrid",
        ids=("hypergrid-v0",),
        ends="With a stop, or at the far edge of the grid.",
        notes="""\
An episode builds an object: a cell of the grid. `kwargs` choose the task:

| argument | values |
| --- | --- |
| `objectives` | two to five of `branin`, `currin`, `shubert`, `sphere`, `beale` |
| `height` | cells along each side, 32; the MOGFN authors use 64 as well |
| `variant` | whose scales of `shubert` and `beale`: `op-gfn` (the default) or `mogfn` |
| `dimensions` | 2, or a larger even number: functions take the mean over pairs of coordinates |
| `edge` | `end`: the far edge ends a walk, as published; `stay`: it is a wall, as in torchgfn |
| `illegal` | `remap`: a move out of the grid becomes the next legal action; `error`: refused |

The two variants disagree on two functions, so their hypervolumes cannot be compared. MOGFN adds
objectives in the order branin, currin, shubert, sphere, beale; OP-GFN takes subsets of branin,
currin, shubert and beale. Fronts are exact: all cells are listed (1,023 of height 32). Hypervolume
alone says little where fronts are convex; currin with shubert, and shubert with beale, are concave:
of their 32 and 22 points, weighted sums find two each.
""",
    ),
    Family(
        page="n-grams",
        title="N-grams",
        ids=("n-grams-v0",),
        ends="With a stop, or at the greatest length.",
        notes="""\
An episode writes a string of amino acids. `kwargs={'ngrams': 'bigrams-4'}` asks for another set:

| set | pieces | points of the exact front | hypervolume |
| --- | --- | --- | --- |
| `bigrams-2` | AV, VC | 13 | 0.629630 |
| `bigrams-3` | AV, VC, CA | 21 | 0.409294 |
| `bigrams-4` | AV, VC, CA, AN | 309 | 0.106186 |
| `unigrams-2` | A, V | 19 | 0.472222 |
| `unigrams-3` | A, V, C | 190 | 0.139918 |
| `unigrams-4` | A, V, C, W | 1,330 | 0.029150 |

The published set of four bigrams holds AB, but B is no amino acid of the alphabet: that piece never
occurs, and every hypervolume is zero. `bigrams-4` has AN instead; other pieces with unknown letters
are refused. Any list of pieces will do (`kwargs={'ngrams': ['AVC', 'CA']}`), with `min_length`,
`max_length`, `divisor` and `alphabet`. Strings of bigrams have 33 to 36 letters: the published code
with `min_len=32` allows no stop before the 33rd. A stop that comes too early writes a letter, or is
refused with `illegal='error'`. Fronts come from induction over the length of the string.
""",
    ),
    Family(
        page="ehrlich",
        title="Ehrlich functions",
        ids=("ehrlich-v0",),
        ends="With the last letter.",
        notes="""\
An episode writes a string, as design of proteins does: some pairs of neighbours are banned, and
only motifs with gaps count, all of them at once. An Ehrlich function (Stanton et al. 2024,
[arXiv:2407.00236](https://arxiv.org/abs/2407.00236)) is the product over its motifs of the share
of the motif that stands somewhere in the string, rounded down to steps of 1 / `quantization`. Each
objective is a function with motifs of its own. `kwargs` choose the task:

| argument | values |
| --- | --- |
| `num_objectives` | 1 to 6 functions, 2 |
| `num_letters` | of the alphabet, 3 to 20 |
| `length` | of the strings, 32 |
| `num_motifs`, `motif_length` | of a function, 2 of 4 letters |
| `quantization` | a divisor of `motif_length`, by default itself; smaller is harder |
| `banned` | letters that must not follow a letter, a fifth of all; repeating one is allowed |
| `instance` | seed of motifs, gaps and banned pairs, 0 |
| `illegal` | `remap`: a banned letter becomes the next one that is not; `error`: refused |

Some string is worth 1 in any one objective: `core.optimum(objective)` writes it. Whether one string
can be perfect in all is not known, except for tasks of at most 262,144 strings, which are listed.
The anchor is the hypervolume of one perfect string for each objective. The definition is the
authors'; instances are drawn from our own random numbers, so values cannot be compared with those
of their package, where banned pairs earn minus infinity (here they cannot be written). Epistasis,
which later versions of that package offer, is left out: letters of a motif count alike.
""",
    ),
    Family(
        page="dna-aptamers",
        title="DNA aptamers",
        ids=("dna-aptamers-v0",),
        ends="With a stop, or at the greatest length.",
        notes="""\
An episode writes a strand of DNA. Strands are folded by ViennaRNA (parameters of Mathews 2004, 37
degrees Celsius, 1 mol/l of sodium), which pip installs; the published task folds with NUPACK, which
needs a licence. So figures cannot be compared with published ones.
`kwargs={'objectives': ['energy', 'pairs']}` chooses among `energy`, `pins`, `pairs` and
`shortness`; `min_length` and `max_length` are 30 and 60. A strand is folded once and remembered. No
front is known.
""",
    ),
    Family(
        page="fragments",
        title="Fragment molecules",
        ids=("fragments-v0",),
        ends="With a stop, or with the last block.",
        notes="""\
An episode joins fragments to a molecule: a smaller form of the published task, not the same. RDKit
computes the objectives, chosen by `kwargs={'objectives': ['qed', 'sa', 'mw', 'logp']}`; the binding
energy that the papers predict by a trained network is left out. The 72 fragments and their 127
atoms to join are those of Bengio et al. 2021; by default the 19 with exactly two such atoms, in
molecules of up to five (`kwargs={'fragments': 'all', 'max_blocks': 9}` for everything).

A state is a tree of fragments, whatever the order in which they were joined, and has as many
parents as leaves that can be taken off. Any block can be the root, so a molecule is several
objects: as many as it has blocks, or fewer where it is symmetric. Samplers in proportion to reward
therefore prefer large molecules. Distances, and the count of distinct objects, go by the molecule
(canonical SMILES). No front is known.
""",
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
