"""Options that several programs have."""


def check_denoising_steps(*steps: int | None) -> None:
    for number in steps:
        if number is not None and not 1 <= number <= 100:
            raise ValueError(f"denoising_steps is {number}, expected 1 to 100")
