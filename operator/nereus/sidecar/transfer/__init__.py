"""The process that downloads one source: `python -m nereus.sidecar.transfer`, a job on stdin, its progress on stdout.

A process of its own, because the client libraries of object stores are large and are needed for minutes only: the
sidecar that stays does not import them, and nothing in them can take it down. Nothing here outlives the job but the
directory it works in, and that is written so that the next process goes on where this one was killed.

    job.py       what goes in and what comes out, as JSON lines          (the only part the sidecar imports)
    engine.py    list, download in parts, verify, put in place           (knows no scheme)
    journal.py   which parts are on disk, and that they are what they were
    s3.py, gs.py, hf.py                                                  one store each; schemes.py is their register

A new store is one module that answers two questions (base.Remote) and one line in schemes.py.
"""
