"""Models: what is trained on a real or a distilled set and scored.

One file is one model: `Params`, and three functions that the judge and the methods call.

    fit_real(real, params, run) -> Teacher                train on the whole real set
    fit_distilled(distilled, real, params, run) -> Teacher    train on a distilled set; `real` only for its validation part
    predictor(teacher, dim, device) -> function               from pixels (b, *shape) in [0, 1] to scores (b, c)

A network's file builds the network, `build(params, shape, classes)`; `fitting.functions` makes the three of it.
"""
