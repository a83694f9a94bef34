from __future__ import annotations

import pytest

from voc.records.redaction import find_emails, find_phones

PHONES = [
    "+49 171 1234567",
    "+49 (0) 30 1234567",
    "+49-30-1234-5678",
    "+4917612345678",
    "0049 171 1234567",
    "+44 20 7946 0958",
    "+33 6 12 34 56 78",
    "+48 501 234 567",
    "+1 555 234 5678",
    "+1 (555) 234-5678",
    "+81 90-1234-5678",
    "+86 138 1234 5678",
    "+7 (495) 123-45-67",
    "030 1234567",
    "(030) 1234567",
    "0171/1234567",
    "0171-123 45 67",
    "01711234567",
    "07700 900123",
    "020 7946 0958",
    "0161 496 0000",
    "03-1234-5678",
    "090-1234-5678",
    "02 9876 5432",
    "01 23 45 67 89",
    "06.12.34.56.78",
    "0612345678",
    "(555) 234-5678",
    "555-234-5678",
    "555.234.5678",
    "1-800-555-1234",
]
WITH_A_WORD = [
    "Tel. 501 234 567",
    "phone: 612 34 56 78",
    "Telefonnummer ist 347 1234567",
    "mon téléphone est 612345678",
]
WITH_A_WORD += ["电话：13812345678", "WhatsApp 555 123 4567", "тел. 495 123-45-67", "Handynummer 171 1234567"]

NOT_PHONES = [
    "it cost 1,299.00 EUR, then 1.299,00 €, now 12 999 zł",
    "+ 10 % or +10 000 steps, +2 000 000 users, +5 °C",
    "on 24.11.2026 at 10:30, 2026-11-24 10:30:00, 24/11/2026, 11-24-2026",
    "am 01.02.2026 10 Uhr, 01.02.2026 12:30, 01/02/2026 0900-1700",
    "2026-11-24T10:30:00+01:00 and 20261124103000",
    "Camera NC-450 X2000, model TC-0171-1234567, WH1000XM4, SM-G991B",
    "order AB-12345678, serial 4711081512345678, IMEI 356938035643809",
    "firmware 1.2.3.4567 on 192.168.100.200 port 8080",
    "1920x1080, 2560 x 1440, 640 480 1080, 3840 2160 60 120",
    "from 2019 2020 2021 2022 on, 100 200 300 400",
    "0.5 m, 0,75 l, 007, 00:45, 0800-1800, 0 1 2 3 4 5 6 7 8 9",
    "called on 12.11.2026 10 times, phone 12.11.2026 10 times, phone 2026-11-24",
    "Phone 12 Pro 256 GB since 2021, phone model 12345678",
    "EAN 4006381333931, ISBN 978-3-16-148410-0, 4111 1111 1111 1111",
    "IBAN DE89 3704 0044 0532 0130 00",
    "Product > Battery > Use > Runtime 24/7 365",
    "lasted 3 - 4 hours, 10-12 days, 5000 mAh, 12345678 bytes",
    "50.1109, 8.6821 and 90210-1234, 10115 Berlin",
    "version 2026.11.24.1030 (build 1234567)",
]


@pytest.mark.parametrize("number", PHONES)
def test_a_telephone_number_is_found_whole_wherever_it_stands(number: str) -> None:
    for before, after in [
        ("", ""),
        ("call ", "."),
        ("(", ")"),
        ("call me:", ", please"),
        ("\n", "\n"),
        ("请打", "谢谢"),
    ]:
        text = f"{before}{number}{after}"
        start = min(span[0] for span in find_phones(text))
        end = max(span[1] for span in find_phones(text))
        assert text[start:end].strip("()") == number.strip("()"), text


@pytest.mark.parametrize("text", WITH_A_WORD)
def test_after_a_word_for_telephone_any_groups_of_digits_are_a_number(text: str) -> None:
    assert [text[start:end] for start, end in find_phones(text)], text
    assert not list(find_phones("".join(c for c in text if not c.isalpha())))


@pytest.mark.parametrize("text", NOT_PHONES)
def test_prices_dates_sizes_and_other_numbers_are_left_alone(text: str) -> None:
    assert [text[start:end] for start, end in find_phones(text)] == []


@pytest.mark.parametrize(
    "address",
    [
        "a@b.de",
        "first.last+tag@mail.example.co.uk",
        "jörg@müller.example",
        "x_y-z@xn--mller-kva.example",
        "A.B@EXAMPLE.COM",
    ],
)
def test_an_address_is_found_whole(address: str) -> None:
    for before, after in [("", ""), ("<", ">"), ("mailto:", "."), ("(", ")!"), ("写", "。")]:
        text = f"{before}{address}{after}"
        (found,) = find_emails(text)
        assert address in text[slice(*found)]
        assert len(text[slice(*found)]) - len(address) <= len("写")


@pytest.mark.parametrize("text", ["5@2.99 each", "@nightforge", "me@home", "a @ b.de", "10@3.50EUR", "@.de", "a@.de"])
def test_an_at_sign_alone_is_no_address(text: str) -> None:
    assert list(find_emails(text)) == []


HOSTILE = [
    "a" * 300_000 + "@",
    "a@" + "b." * 100_000 + "1",
    "1 " * 100_000,
    "0" * 300_000,
    "+49" * 50_000,
    "0123 4" * 50_000,
]


@pytest.mark.parametrize("text", HOSTILE)
@pytest.mark.timeout(30)
def test_hostile_text_is_no_trap(text: str) -> None:
    assert not list(find_emails(text))
    assert all(start < end for start, end in find_phones(text))


@pytest.mark.parametrize("joint", ["-", "_", "+", "/", ",", "--"])
def test_an_address_right_behind_another_is_found(joint: str) -> None:
    text = joint.join(["ann@x.org", "bob@y.org", "cleo@z.org"])
    spans = list(find_emails(text))
    assert len(spans) == 3
    rest = "".join(letter for place, letter in enumerate(text) if not any(a <= place < b for a, b in spans))
    assert "@" not in rest
