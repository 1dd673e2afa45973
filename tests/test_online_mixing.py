"""Methods that move shares while a model trains, on worlds where the right answer is known: each beside what must fail."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from factory.core.errors import FactoryError
from factory.mixing import aioli, dga, doremi, skill_it
from factory.mixing.simplex import exponentiated, softmax, uniform
from factory.mixing.skill_it import SkillItSettings
from tests.worlds import w2_skill_chain as chain
from tests.worlds import w3_noise_hard_easy as three
from tests.worlds import w4_shared_bigram as bigram

SEEDS = range(5)
shares_of = st.lists(st.floats(0.01, 1.0), min_size=3, max_size=3).map(lambda own: np.asarray(own) / sum(own))


# --- the simplex


@given(shares_of, st.lists(st.floats(-1e3, 1e3), min_size=3, max_size=3), st.floats(-1e3, 1e3))
def test_a_step_stays_on_the_simplex_and_what_all_gain_alike_changes_nothing(shares, gains, common):
    moved = exponentiated(shares, gains)
    assert moved.sum() == pytest.approx(1)
    assert moved.min() >= 0
    assert exponentiated(shares, np.asarray(gains) + common) == pytest.approx(moved, abs=1e-9)


# --- skill-it


def mean_loss(policy, steps):
    return float(np.mean([chain.run(policy, steps=steps, seed=seed) for seed in SEEDS]))


def by_graph(graph, eta):
    return lambda losses: skill_it.shares(graph, losses, SkillItSettings(eta=eta))


def test_the_shares_of_a_chain_of_skills_are_those_of_the_formula():
    shares = skill_it.shares(chain.chain(), [[0.2, 0.8, 1, 1]] * 3, SkillItSettings())
    assert shares == pytest.approx([0.1049, 0.2996, 0.4045, 0.1911], abs=5e-5)


def test_before_any_loss_is_known_skills_that_help_others_come_first():
    assert skill_it.shares(chain.chain(), [], SkillItSettings()) == pytest.approx(softmax([0.75, 0.75, 0.75, 0.5]))


@pytest.mark.parametrize("eta", [0.2, 0.5])
def test_a_true_graph_beats_even_shares_and_the_identity(eta):
    even, own = mean_loss(lambda losses: uniform(4), 50), mean_loss(by_graph(np.eye(4), eta), 50)
    graph = mean_loss(by_graph(chain.chain(), eta), 50)
    assert graph < even < own
    assert even == pytest.approx(0.440, abs=0.002)
    assert graph == pytest.approx({0.2: 0.429, 0.5: 0.424}[eta], abs=0.004)


def test_with_more_steps_the_gain_is_larger_and_with_too_large_a_step_it_is_lost():
    assert mean_loss(by_graph(chain.chain(), 0.5), 100) == pytest.approx(0.062, abs=0.002)
    assert mean_loss(lambda losses: uniform(4), 100) == pytest.approx(0.079, abs=0.002)
    assert mean_loss(by_graph(chain.chain(), 2.0), 50) > 0.46


def test_a_complete_graph_gives_even_shares():
    shares = skill_it.shares(np.ones((4, 4)), [[0.2, 0.8, 1, 1]], SkillItSettings())
    assert shares == pytest.approx(uniform(4))


def test_a_learned_skill_that_none_depends_on_loses_its_share_round_by_round():
    losses = [[1.0 - 0.1 * at, 0.9, 0.0] for at in range(6)]
    graph = np.eye(3)
    shares = [skill_it.shares(graph, losses[:end], SkillItSettings(window=6))[2] for end in range(1, 7)]
    assert all(after < before for before, after in itertools.pairwise(shares))


def test_short_runs_find_the_edges_of_the_chain():
    """A pair can only show what its second skill needs of the first; so each edge is looked for where the rest is learned."""
    found = np.zeros((4, 4))
    for learned in range(3):
        start = np.array([0.05] * learned + [1.0] * (4 - learned))
        alone = np.array([chain.learn(start, np.eye(4)[skill], 100)[skill] for skill in range(4)])
        paired = np.array(
            [[chain.learn(start, (np.eye(4)[i] + np.eye(4)[j]) / 2, 100)[j] for j in range(4)] for i in range(4)]
        )
        found = np.maximum(found, skill_it.graph_from_pairs(alone, paired, least=0.05, binary=0.5))
    assert found.tolist() == chain.chain().tolist()


def test_the_linear_graph_is_the_drop_over_the_own_drop():
    graph = skill_it.graph_from_alone([1.0, 1.0], [[0.5, 0.8], [1.1, 0.2]])
    assert graph == pytest.approx(np.array([[1.0, 0.25], [0.0, 1.0]]))


def test_options_average_the_window_normalise_and_dampen():
    losses, graph = [[1.0, 4.0], [0.5, 4.0]], [[1.0, 0.5], [0.0, 1.0]]
    mean = skill_it.shares(graph, losses, SkillItSettings(mean=True))
    assert mean == pytest.approx(softmax(0.5 * np.array([0.75 + 0.5 * 4, 4.0])))
    scaled = skill_it.shares(graph, losses, SkillItSettings(normalise=True), [2.0, 8.0])
    assert scaled == pytest.approx(softmax(0.5 * np.array([0.75 + 0.5 * 1.0, 1.0])))
    assert skill_it.dampened(graph, 2).tolist() == [[1.0, 0.125], [0.0, 1.0]]
    decayed = skill_it.shares(graph, losses, SkillItSettings(decay_eta=True, mean=True))
    assert decayed == pytest.approx(softmax(0.5 / (4.5 / 5) * np.array([2.75, 4.0])))
    with pytest.raises(FactoryError, match=r"a graph of shape \(2, 2\) and losses of 3 skills"):
        skill_it.shares(graph, [[1, 1, 1]], SkillItSettings())


# --- doremi


def robust_shares(seed, *, eta=1.0, reference=True, epsilon=1e-3, steps=400):
    tables = three.make_tables(seed)
    worth = three.reference_losses(tables) if reference else np.zeros_like(tables)
    logits, shares, total = np.zeros_like(tables), uniform(3), np.zeros(3)
    for _ in range(steps):
        losses = -three.log_softmax(logits)
        excess = (tables * np.maximum(losses - worth, 0)).sum(axis=2).mean(axis=1)
        shares = doremi.step(shares, excess, eta=eta, epsilon=epsilon)
        total += shares
        logits = three.descend(logits, tables, shares)
    return total / steps


@pytest.mark.parametrize("seed", range(3))
def test_a_reference_takes_noise_out_and_gives_the_hard_domain_more(seed):
    noise, hard, easy = robust_shares(seed)
    assert noise <= 0.1
    assert hard >= 3 * three.SIZES[three.HARD]
    assert [noise, hard, easy] == pytest.approx([0.045, 0.42, 0.53], abs=0.1)


def test_without_a_reference_the_same_loop_runs_after_noise():
    assert robust_shares(0, eta=0.1, reference=False)[three.NOISE] == pytest.approx(0.96, abs=0.02)


def test_excess_is_clipped_token_by_token_and_a_domain_that_is_absent_keeps_its_last():
    excess = doremi.clipped_excess([3.0, 1.0, 5.0], [1.0, 4.0, 5.5], [0, 0, 1], [9.0, 9.0, 0.7])
    assert excess.tolist() == [1.0, 0.0, 0.7]


def test_the_state_averages_all_steps_and_no_share_is_below_its_floor():
    state = doremi.GroupDro(2, doremi.DoReMiSettings(epsilon=0.1))
    seen = [state.update([9.0, 0.0], [0.0, 0.0], [0, 1]) for _ in range(5)]
    assert state.average == pytest.approx(np.mean(seen, axis=0))
    assert seen[-1][1] >= 0.05
    again = doremi.GroupDro(2, doremi.DoReMiSettings(epsilon=0.1))
    again.restore(state.to_json())
    assert again.update([1.0], [0.0], [1]).tolist() == state.update([1.0], [0.0], [1]).tolist()


# --- dynamic gradient alignment

TRUTH = np.array([0, 0.7, 0, 0.3, 0])


def aligned(seed, *, eta=None, sign=1.0, steps=2000, every=50):
    """Shares, and target loss above the target's entropy; the target's gradient is that of 500 transitions."""
    chains = np.stack(bigram.make_chains(seed))
    target = np.tensordot(TRUTH, chains, 1)
    read = bigram.draw(list(chains), TRUTH, 1, seed + 1, draws=500)
    counts = np.zeros((24, 24))
    np.add.at(counts, (read.states[0], read.following[0]), 1.0)
    table, state = np.zeros((24, 24)), dga.Alignment(5, dga.DgaSettings(every=every, eta=eta))
    for step in range(steps):
        probabilities = np.exp(bigram.log_softmax(table))
        if step % every == 0:
            towards = (probabilities * counts.sum(axis=1, keepdims=True) - counts) / 500
            state.update(sign * dga.alignments((probabilities - chains) / 24, towards))
        table -= 0.5 * (probabilities - np.tensordot(state.shares, chains, 1))
    return state.shares, bigram.loss(table, target) - bigram.entropy(target)


def test_alignment_finds_the_mixture_of_the_target_from_few_of_its_transitions():
    found = [aligned(seed) for seed in SEEDS]
    assert np.median([np.abs(shares - TRUTH).sum() for shares, _ in found]) <= 0.05
    assert max(gap for _, gap in found) <= 0.03


def test_a_step_that_is_too_small_barely_moves_and_a_turned_sign_goes_the_other_way():
    assert aligned(0, eta=1.0)[0][1] == pytest.approx(0.24, abs=0.03)
    assert aligned(0, eta=100.0, sign=-1.0)[0][1] < 0.05


def test_the_first_update_of_a_calibrated_step_changes_no_share_by_more_than_the_root_of_e():
    state = dga.Alignment(3, dga.DgaSettings(beta=1.0))
    shares = state.update([5.0, 1.0, 3.0])
    assert np.abs(np.log(shares * 3)).max() <= 0.6
    assert state.eta == 0.25
    with pytest.raises(FactoryError, match="no step has a size"):
        dga.calibrated_eta([2.0, 2.0])


def test_with_a_basis_the_weights_of_its_histograms_move():
    basis = ((0.5, 0.5, 0.0), (0.0, 0.0, 1.0))
    state = dga.Alignment(3, dga.DgaSettings(eta=10.0, basis=basis, beta=1.0))
    assert state.update([1.0, 0.0]) == pytest.approx([0.5, 0.5, 0.0], abs=1e-3)
    with pytest.raises(FactoryError, match="rows of 3 shares"):
        dga.Alignment(4, dga.DgaSettings(basis=basis))


def test_no_share_falls_below_its_floor():
    state = dga.Alignment(2, dga.DgaSettings(eta=100.0, beta=1.0))
    assert min(state.update([1.0, 0.0])) == pytest.approx(5e-4, rel=0.01)


# --- aioli

SKEWED = [0.6, 0.25, 0.1, 0.04, 0.01]


def probed(seed, steps, *, chains=None, draws=64):
    """A round of probes on a model that knows some domains well: shares it leads to, and Kendall's τ with the truth."""
    from scipy.stats import kendalltau

    chains = chains or bigram.make_chains(seed)
    table = bigram.train(chains, SKEWED, np.full(1000, 0.5), seed)
    random = np.random.default_rng(seed + 5)
    probes = aioli.Probes(5, aioli.AioliSettings(probe_steps=steps, every=10_000))

    def losses(own):
        return np.array([bigram.loss(own, chain) for chain in chains])

    probabilities, before = np.exp(bigram.log_softmax(table)), losses(table)
    truth = [(before - losses(table - 0.05 * (probabilities - chain))).sum() for chain in chains]
    for _ in range(probes.settings.sweeps):
        for domain in random.permutation(5).tolist():
            read = bigram.draw(chains, probes.mixtures[domain], steps, int(random.integers(1 << 30)), draws)
            for step in range(steps):
                table = table - 0.5 * 24 / draws * bigram.gradient(table, read.states[step], read.following[step])
            after = losses(table)
            probes.add(domain, before, after)
            before = after
    return probes.next_shares(uniform(5)), kendalltau(probes.law.sum(axis=0), truth).statistic


def test_short_probes_order_the_domains_by_what_they_are_worth_and_long_ones_do_not():
    short = np.mean([probed(seed, 4)[1] for seed in SEEDS])
    assert short >= 0.8
    assert np.mean([probed(seed, 16)[1] for seed in SEEDS]) < short - 0.2


def test_domains_that_are_the_same_keep_even_shares():
    for seed in range(3):
        one = bigram.make_chains(seed)[0]
        assert np.abs(probed(seed, 4, chains=[one] * 5)[0] - 0.2).max() <= 0.02


def test_the_law_is_solved_from_probes_that_are_not_pure():
    law = np.array([[0.3, 0.1, 0.0], [0.0, 0.5, 0.1], [0.2, 0.0, 0.4]])
    mixtures = aioli.probe_mixtures(3)
    assert mixtures[0] == pytest.approx([0.625, 0.1875, 0.1875])
    assert aioli.solve_law(law @ mixtures.T, mixtures) == pytest.approx(law)
    assert np.abs(aioli.solve_law(law @ mixtures.T, mixtures.T) - law).max() < 1e-9  # symmetric: rows are columns


def test_a_step_follows_the_column_sums_of_the_normalised_law():
    law = np.array([[3.0, -1.0], [2.0, 0.0]])
    assert aioli.normalised(law) == pytest.approx(np.array([[4.0, 0.0], [3.0, 1.0]]) / 8)
    assert aioli.step([0.5, 0.5], law, eta=0.2) == pytest.approx(softmax([0.2 * 7 / 8, 0.2 / 8]))
    assert aioli.normalised(np.zeros((2, 2))).tolist() == [[0.0, 0.0], [0.0, 0.0]]


@settings(max_examples=30)
@given(st.lists(st.lists(st.floats(-1, 1), min_size=3, max_size=3), min_size=3, max_size=3))
def test_any_law_gives_shares_that_sum_to_1(law):
    assert aioli.step(uniform(3), law).sum() == pytest.approx(1)


def test_one_domain_has_no_mixture():
    with pytest.raises(FactoryError, match="at least two are needed"):
        aioli.probe_mixtures(1)
