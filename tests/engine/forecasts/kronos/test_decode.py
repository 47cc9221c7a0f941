"""The fast decoding against the golden vectors, and against the slow twin on other shapes."""

import numpy as np
import pytest
import torch

from engine.forecasts.draws import uniforms
from engine.forecasts.kronos import reference
from engine.forecasts.kronos.decode import counter_choice, filtered, sample_paths
from engine.forecasts.kronos.inputs import normalise, time_features

LOGITS, PATHS, FORECASTS = 2e-5, 5e-6, 5e-5  # of golden/README.md


def recording(choose):
    """Return a choice that keeps the logits and tokens of every step, and what it kept."""
    kept = {0: [], 1: []}

    def choice(logits, step, which):
        tokens = choose(logits, step, which)
        kept[which].append((logits.numpy().copy(), tokens.numpy().copy()))
        return tokens

    return choice, kept


def multinomial(seed, temperature, top_k, top_p):
    """Draw as the public code does: rows window * S + sample, one generator for all."""
    generator = torch.Generator().manual_seed(seed)

    def choose(logits, step, which):
        chances = torch.softmax(filtered(logits, temperature, top_k, top_p), -1)
        flat = chances.reshape(-1, chances.shape[-1])
        return torch.multinomial(flat, 1, generator=generator).view(logits.shape[:2])

    return choose


def inputs(pair, cases, arrays):
    used = cases["lookback_used"]
    return normalise(arrays["ohlcva"][:, -used:]), arrays["time_x"], arrays["time_y"]


def test_bars_are_normalised_as_recorded(golden):
    pair, cases, arrays = golden
    normal, _, _ = inputs(pair, cases, arrays)
    assert np.array_equal(normal.z, arrays["z"])
    assert np.array_equal(normal.mean, arrays["norm_mean"]) and np.array_equal(normal.std, arrays["norm_std"])


def test_time_features_are_as_recorded(golden):
    _, cases, arrays = golden
    wall = arrays["stamps_ns"][:, -cases["lookback_used"] :] // 1000
    assert np.array_equal(time_features(wall), arrays["time_x"])
    assert np.array_equal(time_features(arrays["future_stamps_ns"] // 1000), arrays["time_y"])


def test_tokens_and_hidden_states_are_as_recorded(golden):
    pair, _, arrays = golden
    z = torch.from_numpy(arrays["z"])
    s1, s2 = pair.tokenizer.encode(z)
    assert np.abs(pair.tokenizer.signs(z).numpy() - arrays["quant_pre"]).max() <= LOGITS
    assert np.array_equal(s1, arrays["s1"]) and np.array_equal(s2, arrays["s2"])
    reading = pair.model.read((s1, s2), torch.from_numpy(arrays["time_x"]))
    assert np.abs(reading.context.numpy() - arrays["context"]).max() <= LOGITS


def test_decoded_history_is_as_recorded(golden):
    pair, _, arrays = golden
    s1, s2 = (torch.from_numpy(arrays[name]).long() for name in ("s1", "s2"))
    remembered = pair.tokenizer.remember((s1[:, :-9], s2[:, :-9]))
    newest = pair.tokenizer.decode(remembered, (s1[:, None, -9:], s2[:, None, -9:]))
    assert np.abs(newest[:, 0].numpy() - arrays["recon_z"][:, -9:]).max() <= PATHS


@pytest.mark.parametrize("twin", [False, True], ids=["fast", "twin"])
@pytest.mark.parametrize("run", ["greedy", "sampA", "sampB"])
def test_forecasts_are_as_recorded(golden, run, twin):
    pair, cases, arrays = golden
    normal, time_x, time_y = inputs(pair, cases, arrays)
    greedy = {"T": 1.0, "top_k": 1, "top_p": 1.0, "S": 1, "seed": 0}
    how = next((one for one in cases["sampled"] if one["name"] == run), greedy)
    choose, kept = recording(multinomial(how["seed"], how["T"], how["top_k"], how["top_p"]))
    if twin:
        paths = reference.sample_paths(*pair.slow, normal.z, time_x, time_y, how["S"], choose)
    else:
        paths = sample_paths(pair.model, pair.tokenizer, normal.z, time_x, time_y, how["S"], choose)
    for which, name in ((0, "s1"), (1, "s2")):
        logits, tokens = (np.stack(part, axis=2) for part in zip(*kept[which], strict=True))
        recorded = arrays[f"{run}_{name}"], arrays[f"{run}_{name}_logits"]
        if run == "greedy":
            recorded = recorded[0][:, None], recorded[1][:, None]
        assert np.array_equal(tokens, recorded[0])
        assert np.abs(logits - recorded[1]).max() <= LOGITS
    norm, price = ("greedy_norm", "greedy") if run == "greedy" else (f"{run}_paths_norm", f"{run}_mean")
    assert np.abs(paths - arrays[norm].reshape(paths.shape)).max() <= PATHS
    off = np.abs(normal.restore(paths).mean(axis=1) - arrays[price])
    assert (off <= FORECASTS * (normal.std[:, None] + 1e-5)).all()  # a window without volume has std 0


SHAPES = {
    "as published, but narrow": dict(n_layers=4, d_model=64, n_heads=4, ff_dim=96, learn_te=True),
    "head size 52": dict(n_layers=2, d_model=104, n_heads=2, ff_dim=64, learn_te=True),
    "fixed time tables, 3 heads": dict(n_layers=2, d_model=24, n_heads=3, ff_dim=40, learn_te=False),
    "one layer": dict(n_layers=1, d_model=8, n_heads=1, ff_dim=8, learn_te=True),
}


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize(("samples", "horizon"), [(1, 1), (1, 7), (5, 4)])
def test_fast_decoding_equals_the_plain_one(make_pair, shape, samples, horizon):
    pair = make_pair(3, bits=8, **SHAPES[shape])
    normal, time_x, time_y, draws = window_of_noise(4, 60, samples, horizon)
    made = []
    for fast in (True, False):
        choose, kept = recording(counter_choice(draws, 0.9, 0, 0.9))
        if fast:
            paths = sample_paths(pair.model, pair.tokenizer, normal.z, time_x, time_y, samples, choose)
        else:
            paths = reference.sample_paths(*pair.slow, normal.z, time_x, time_y, samples, choose)
        made.append((paths, kept))
    for which in (0, 1):
        for (logits, tokens), (slow_logits, slow_tokens) in zip(
            made[0][1][which], made[1][1][which], strict=True
        ):
            assert np.array_equal(tokens, slow_tokens)
            assert np.abs(logits - slow_logits).max() <= LOGITS
    assert np.abs(made[0][0] - made[1][0]).max() <= PATHS
    assert made[0][0].shape == (4, samples, horizon, 6) and made[0][0].std() > 0.1


def test_a_token_that_differs_from_the_plain_form_is_a_tie_of_rounding(make_pair):
    """Of 64,000 signs one or the other may lie nearer to 0 than float32 sums can tell."""
    pair = make_pair(0, tokenizer=(256, 4, 512), **SHAPES["one layer"])
    config, weights = pair.slow[1]
    z = torch.from_numpy(window_of_noise(8, 400, 1, 1)[0].z)
    exact = reference.signs({name: w.double() for name, w in weights.items()}, config, z.double())
    plain = reference.signs(weights, config, z)
    fast = torch.cat([pair.tokenizer.signs(z[i : i + 1]) for i in range(8)])
    error = max((form - exact).abs().max().item() for form in (fast, plain))
    assert error < 1e-4 * exact.std()
    other = (fast > 0) != (plain > 0)
    assert other.sum() <= 3 and (exact[other].abs() <= error).all()


def window_of_noise(windows, bars, samples, horizon, seed=0):
    rng = np.random.default_rng(seed)
    close = 50 * np.exp(np.cumsum(rng.normal(0, 0.02, (windows, bars)), axis=1))
    wide = close[..., None] * (1 + rng.uniform(-0.01, 0.01, (windows, bars, 4)))
    volume = rng.lognormal(10, 1, (windows, bars, 1))
    ohlcva = np.concatenate([wide, volume, volume * close[..., None]], axis=-1)
    stamps = np.arange(bars + horizon) * 3_600_000_000 * 5 + np.arange(windows)[:, None] * 60_000_000
    time = time_features(stamps)
    as_of = np.arange(windows, dtype=np.int64)
    draws = uniforms(7, [f"N{i}" for i in range(windows)], as_of, samples, horizon)
    return normalise(ohlcva), time[:, :bars], time[:, bars:], draws


def tokens_of(pair, rows, samples, take=None):
    """Return paths and tokens of some windows of one batch of noise."""
    normal, time_x, time_y, draws = window_of_noise(24, 50, samples, 3)
    rows = list(range(24)) if rows is None else rows
    choose, kept = recording(counter_choice(draws[rows], 1.0, 0, 0.9))
    z = np.ascontiguousarray(normal.z[rows])
    paths = sample_paths(pair.model, pair.tokenizer, z, time_x[rows], time_y[rows], samples, choose)
    return paths, np.stack([tokens for which in (0, 1) for _, tokens in kept[which]])


def test_a_forecast_does_not_depend_on_its_batch_its_order_or_the_samples(make_pair):
    pair = make_pair(5, **SHAPES["as published, but narrow"])
    paths, tokens = tokens_of(pair, None, 8)
    order = np.random.default_rng(1).permutation(24).tolist()
    for rows, samples in ((order, 8), ([17], 8), ([3, 17], 8), (None, 16)):
        there, theirs = tokens_of(pair, rows, samples)
        kept = list(range(24)) if rows is None else rows
        assert np.array_equal(theirs[:, :, :8], tokens[:, kept])
        assert np.abs(there[:, :8] - paths[kept]).max() <= 1e-6


def test_the_choice_takes_the_token_in_whose_share_the_draw_falls():
    chances = np.array([0.0, 0.2, 0.0, 0.5, 0.3, 0.0])
    with np.errstate(divide="ignore"):
        logits = torch.from_numpy(np.log(chances)).float().expand(1, 5, 6)
    draws = np.array([1e-12, 0.19, 0.21, 0.69, 0.999999])
    choose = counter_choice(np.repeat(draws, 2).reshape(1, 5, 1, 2), 1.0, 0, 1.0)
    assert choose(logits, 0, 1).tolist() == [[1, 1, 3, 3, 4]]


@pytest.mark.parametrize(
    ("temperature", "top_k", "top_p", "kept"),
    [
        (1.0, 0, 1.0, [0, 1, 2, 3, 4]),
        (1.0, 2, 0.1, [1, 3, 4]),  # the third equals the second; top_p is not asked
        (1.0, 1, 1.0, [3]),
        (1.0, 0, 0.5, [1, 3]),  # .44 is not enough; the token that crosses .5 stays
        (1.0, 0, 0.4, [3]),
        (0.25, 0, 0.5, [3]),  # divided first: the largest alone has more than half
        (1.0, 9, 1.0, [0, 1, 2, 3, 4]),
    ],
)
def test_the_filters_keep(temperature, top_k, top_p, kept):
    logits = torch.tensor([-2.0, 1.0, 0.0, 1.5, 1.0 if top_k else 0.5])
    out = filtered(logits, temperature, top_k, top_p)
    assert torch.isfinite(out).nonzero().flatten().tolist() == kept
    assert torch.equal(out[kept], logits[kept] / temperature)


def test_bfloat16_stays_near_float32(make_pair):
    pair = make_pair(5, **SHAPES["as published, but narrow"])
    from engine.forecasts.kronos.model import Model

    half = Model(*pair.slow[0], torch.bfloat16)
    normal, time_x, time_y, _ = window_of_noise(3, 40, 1, 1)
    tokens = pair.tokenizer.encode(torch.from_numpy(normal.z))
    logits = [m.first_logits(m.read(tokens, torch.from_numpy(time_x))) for m in (pair.model, half)]
    assert logits[1].dtype == torch.float32
    assert 0 < (logits[0] - logits[1]).abs().max() < 0.1 * logits[0].std()
