"""What is a client told of costs, and when is a task refused for its price?"""

from tests.api.test_submit import IMAGE, SEED_REQUEST, changed, submit

PRICES = {"painter-1": {"unit": "picture", "amount": "0.10", "currency": "USD"}}


def test_a_submit_is_answered_with_its_price(api, settings):
    """Proves that the 201 has an estimate exactly where a price is configured."""
    assert "estimated_cost" not in submit(api, IMAGE).json()
    settings.GENERATION_PRICES = PRICES
    answer = submit(api, changed(IMAGE, "task_data/image_params/count", 3)).json()
    assert answer["estimated_cost"] == {"amount": "0.30", "currency": "USD"}
    settings.GENERATION_PRICES = {"painter-1": {**PRICES["painter-1"], "unit": "second"}}
    answer = submit(api, changed(SEED_REQUEST, "task_data/video_params/duration_s", 2.5)).json()
    assert answer["estimated_cost"]["amount"] == "0.25"
