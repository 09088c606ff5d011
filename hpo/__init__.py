"""Search over agents' settings: the layer between one run and a study of many.

No Hydra in here: a command line, a notebook or a test hands over a `StudyConfig`, a `SearchSpace`
and a function that does one run, and the engine does the rest, in as many processes as there are::

    config = StudyConfig(name="minecart", n_trials=40, budget=200_000, workers=2)
    space = SearchSpace.of(CMORLConfig(), overrides={"learning_rate": {"low": 1e-4, "high": 1e-2}})

    study = open_study(config, space, folder=Path("studies/minecart"))  # new, or goes on
    work(study, run_trial)                        # this process: search, race and test
    supervise(config, space, run_trial, folder=folder, on_progress=print)  # or worker processes
    summary = summarise(study)                    # StudySummary: trials, standings, validation

=====================  ==========================================================================
``types``              `StudyConfig`, `Objective`, `RaceConfig`, `TrialRequest`, `TrialOutcome`,
                       `Report`, `RunTrial`, `TrialRecord`, `Progress`, `StudySummary`, errors
``space``              `SearchSpace.of(base, overrides=None, only=None)`, ``.settings(sampled)``
``study``              `open_study(config, space, *, folder)` -> `Study`;
                       ``study.progress()``, ``study.trials(stage)``
``worker``             `work(study, run_trial, *, worker=0, stages=STAGES, stop=None)`
``supervisor``         `supervise(config, space, run_trial, *, folder, on_progress=None)`
``racing``             `race(study, run_trial)` -> standings; `validate(study, run_trial)`
``summary``            `summarise(study)` -> `StudySummary`
=====================  ==========================================================================

Fields of an agent's configuration say their own search range by `morl.search_space.searchable`.
Files of a study: ``study.journal``, ``study.json`` (the summary) and
``trials/00012/seed_100/outcome.json`` (``race/``, ``test/`` alike).
"""
