"""Answers in words, in ascending order: English, Spanish and German.

Words are compared without case, blanks and kinds of quotes. A scale is a family of words with
ranks; two words of one rank do not stand in one scale ("often" and "frequently").
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import cache

from ae_pipeline.sources import wording

__all__ = ["in_order", "no_answer"]

_FAMILIES = {
    "agreement": """
-4: strongly disagree|disagree strongly|completely disagree|totally disagree|fully disagree|
    disagree completely|very strongly disagree|definitely disagree|totalmente en desacuerdo|
    muy en desacuerdo|completamente en desacuerdo|stimme überhaupt nicht zu|stimme gar nicht zu|
    lehne völlig ab|stimme nicht zu|trifft überhaupt nicht zu|trifft gar nicht zu|
    lehne stark ab|stimme ganz und gar nicht zu|not at all true|definitely false
-3: disagree|moderately disagree|disagree moderately|mostly disagree|generally disagree|
    en desacuerdo|bastante en desacuerdo|lehne ab|trifft nicht zu|mostly false
-2: somewhat disagree|slightly disagree|mildly disagree|disagree somewhat|disagree slightly|
    disagree a little|rather disagree|tend to disagree|algo en desacuerdo|
    ligeramente en desacuerdo|un poco en desacuerdo|stimme eher nicht zu|trifft eher nicht zu|
    stimme weniger zu|lehne eher ab|trifft wenig zu|trifft kaum zu
0: neither agree nor disagree|neither disagree nor agree|neutral|undecided|unsure|not sure|
    neither|neither nor|no opinion|ni de acuerdo ni en desacuerdo|
    ni en desacuerdo ni de acuerdo|indeciso|indiferente|weder noch|teils/teils|teils teils|
    teils, teils|unentschieden|weder zustimmung noch ablehnung|stimme teils zu|
    stimme weder zu noch nicht zu|stimme teilweise zu|trifft teils zu|trifft teilweise zu
2: somewhat agree|slightly agree|mildly agree|agree somewhat|agree slightly|agree a little|
    rather agree|tend to agree|algo de acuerdo|ligeramente de acuerdo|un poco de acuerdo|
    stimme eher zu|trifft eher zu|stimme etwas zu
3: agree|moderately agree|agree moderately|mostly agree|generally agree|de acuerdo|
    bastante de acuerdo|stimme zu|trifft zu|stimme überwiegend zu|trifft überwiegend zu|mostly true
4: strongly agree|agree strongly|completely agree|totally agree|fully agree|agree completely|
    very strongly agree|definitely agree|totalmente de acuerdo|muy de acuerdo|
    completamente de acuerdo|stimme voll und ganz zu|stimme völlig zu|stimme voll zu|
    stimme vollkommen zu|stimme sehr zu|stimme stark zu|trifft voll und ganz zu|
    trifft völlig zu|trifft voll zu|trifft genau zu|trifft vollkommen zu|definitely true""",
    "frequency": """
0: never|not once|nunca|jamás|nie|niemals|überhaupt nicht|not at all|ningún día|nada
1: almost never|hardly ever|very rarely|very seldom|casi nunca|fast nie|sehr selten|muy raramente|
    muy rara vez
2: rarely|seldom|raramente|rara vez|pocas veces|selten
3: occasionally|once in a while|several days|a few days|de vez en cuando|ocasionalmente|
    gelegentlich|ab und zu|an einzelnen tagen|varios días|algunos días|several times
4: sometimes|about half the time|half of the time|a veces|algunas veces|manchmal|
    la mitad de las veces|more than half the days|more than half of the days|
    más de la mitad de los días|an mehr als der hälfte der tage
5: often|frequently|fairly often|a menudo|con frecuencia|frecuentemente|muchas veces|oft|häufig
6: very often|usually|most of the time|very frequently|mostly|nearly every day|almost always|
    almost every day|muy a menudo|muy frecuentemente|normalmente|casi todos los días|casi siempre|
    la mayoría de las veces|sehr oft|sehr häufig|meistens|beinahe jeden tag|fast jeden tag|
    fast immer
7: always|all the time|every day|constantly|siempre|todos los días|todo el tiempo|immer|jeden tag|
    ständig""",
    "intensity": """
0: not at all|none|no|nothing|nada|en absoluto|ninguno|ninguna|ningún|gar nicht|überhaupt nicht|
    nicht|keine|keiner|very slightly or not at all
1: very little|hardly|a tiny bit|muy poco|kaum|sehr wenig
2: a little|a little bit|slightly|mild|mildly|somewhat|un poco|poco|algo|leve|ligeramente|
    ein wenig|etwas|ein bisschen|wenig|leicht
3: moderately|moderate|medium|to some extent|moderado|moderada|moderadamente|medio|regular|
    mäßig|mittel|mittelmäßig|einigermaßen|ziemlich wenig
4: quite a bit|quite a lot|considerably|a lot|much|severe|bastante|mucho|grave|severo|severa|
    intenso|ziemlich|erheblich|stark|schwer
5: very much|very|very severe|muchísimo|muy grave|muy|sehr|sehr stark|sehr schwer
6: extremely|completely|extreme|a great deal|extremadamente|totalmente|completamente|
    äußerst|extrem|vollkommen|völlig""",
    "satisfaction": """
-4: very dissatisfied|very unsatisfied|extremely dissatisfied|completely dissatisfied|
    muy insatisfecho|muy insatisfecha|totalmente insatisfecho|sehr unzufrieden|very unhappy
-3: dissatisfied|unsatisfied|insatisfecho|insatisfecha|unzufrieden|unhappy
-2: somewhat dissatisfied|slightly dissatisfied|rather dissatisfied|algo insatisfecho|
    poco satisfecho|eher unzufrieden
0: neutral|neither satisfied nor dissatisfied|ni satisfecho ni insatisfecho|
    weder zufrieden noch unzufrieden|teils teils|teils/teils
2: somewhat satisfied|slightly satisfied|rather satisfied|algo satisfecho|eher zufrieden
3: satisfied|satisfecho|satisfecha|zufrieden|happy
4: very satisfied|extremely satisfied|completely satisfied|muy satisfecho|muy satisfecha|
    totalmente satisfecho|sehr zufrieden|very happy""",
    "quality": """
-4: very poor|very bad|terrible|awful|muy malo|muy mala|muy mal|pésimo|sehr schlecht
-3: poor|bad|malo|mala|mal|schlecht
-1: fair|weniger gut|eher schlecht
0: average|acceptable|regular|normal|mittelmäßig|mittel|okay|neither good nor bad|aceptable
3: good|bueno|buena|bien|gut
4: very good|muy bueno|muy buena|muy bien|sehr gut
5: excellent|outstanding|excelente|ausgezeichnet|hervorragend""",
    "likelihood": """
-4: very unlikely|extremely unlikely|muy improbable|sehr unwahrscheinlich
-3: unlikely|improbable|poco probable|unwahrscheinlich
-2: somewhat unlikely|slightly unlikely|algo improbable|eher unwahrscheinlich
0: neutral|neither likely nor unlikely|ni probable ni improbable|weder noch
2: somewhat likely|slightly likely|algo probable|eher wahrscheinlich
3: likely|probable|wahrscheinlich
4: very likely|extremely likely|muy probable|sehr wahrscheinlich""",
    "importance": """
0: not at all important|not important|unimportant|nada importante|sin importancia|
    überhaupt nicht wichtig|gar nicht wichtig|unwichtig|nicht wichtig
2: slightly important|a little important|somewhat important|poco importante|algo importante|
    etwas wichtig|weniger wichtig|eher unwichtig
3: moderately important|neutral|moderadamente importante|mittelmäßig wichtig|teils teils
4: important|fairly important|quite important|importante|bastante importante|wichtig|eher wichtig
5: very important|muy importante|sehr wichtig
6: extremely important|essential|extremadamente importante|äußerst wichtig""",
    "truth": """
-4: very untrue of me|almost never true of me|completely untrue of me|not true of me at all|
    extremely uncharacteristic of me|not at all like me
-3: untrue of me|usually not true of me|mostly untrue of me|not like me|not much like me
-2: somewhat untrue of me|sometimes but infrequently true of me|slightly more untrue than true|
    somewhat uncharacteristic of me
0: neutral|occasionally true of me|uncertain|somewhat like me
2: somewhat true of me|often true of me|slightly more true than untrue|
    somewhat characteristic of me
3: true of me|usually true of me|mostly true of me|mostly like me|like me
4: very true of me|almost always true of me|describes me perfectly|
    extremely characteristic of me|very much like me""",
    "yes or no": """
0: no|n|nein|false|falso|falsch|not selected|unchecked|nicht gewählt|no seleccionado|disagree
1: unsure|not sure|maybe|perhaps|quizás|tal vez|vielleicht|a medias|sometimes|partly|teils
2: yes|y|ja|sí|si|true|verdadero|richtig|selected|checked|gewählt|seleccionado|agree""",
}
_NO_ANSWER = re.compile(
    r"(prefer|rather) not.*|no answer|not answered|refused?|decline.*|don'?t know|do not know|dk|"
    r"not applicable|n/?a|missing|skipped|keine angabe|keine antwort|k\. ?a\.|wei(ss|ß) nicht|"
    r"nicht beantwortet|möchte ich nicht.*|nicht zutreffend|prefiero no.*|no sabe.*|no contest.*|"
    r"ns/?nc|no aplica|sin respuesta|no lo sé"
)
_CODE = re.compile(r"([^\W\d]{1,3})0*(\d{1,3})")


MOST_LEVELS = 11
"""Answers that a question has at most."""


def no_answer(word: str) -> bool:
    """Whether a word says that there is no answer."""
    return _NO_ANSWER.fullmatch(wording.plainly(word)) is not None


@cache
def _families() -> dict[str, dict[str, int]]:
    found = {}
    for name, lines in _FAMILIES.items():
        ranks: dict[str, int] = {}
        for rank, words in re.findall(r"(-?\d+): ([^:]+?)(?=\n-?\d+: |\Z)", lines):
            ranks |= {wording.plainly(word): int(rank) for word in words.split("|")}
        found[name] = ranks
    return found


def in_order(words: Iterable[str]) -> tuple[str, ...] | None:
    """Words of one scale from lowest to highest, as they are spelled; None for no known scale.

    Parameters
    ----------
    words : iterable of str
        All answers to some questions. A word that is spelled in several ways stands once.

    Returns
    -------
    tuple of str or None
        An end of the scale that nobody chose is added where its opposite is there.
    """
    spelled: dict[str, str] = {}
    for word in sorted(words):
        spelled.setdefault(wording.plainly(word), " ".join(word.split()))
    if len(spelled) < 2:
        return None
    coded = {word: _CODE.fullmatch(word) for word in spelled}
    if all(coded.values()):
        numbers = {int(told[2]): word for word, told in coded.items() if told}
        if len({told[1] for told in coded.values() if told}) == 1 and max(numbers) <= MOST_LEVELS:
            like = spelled[min(spelled)]
            wide = len(like) - len(like.rstrip("0123456789"))
            stem = like.rstrip("0123456789")
            return tuple(
                spelled[numbers[n]] if n in numbers else f"{stem}{n:0{wide}d}"
                for n in range(min(1, *numbers), max(numbers) + 1)
            )
    for ranks in _families().values():
        own = {word: ranks.get(word) for word in spelled}
        if None in own.values() or len(set(own.values())) < len(own):
            continue
        by_rank = {int(rank): spelled[word] for word, rank in own.items() if rank is not None}
        end = max(map(abs, by_rank))
        if min(ranks.values()) < 0:
            for missing in {end, -end} & set(ranks.values()) - set(by_rank):
                by_rank[missing] = _alike(by_rank[-missing], ranks, missing)
        return tuple(by_rank[rank] for rank in sorted(by_rank))
    return None


def _alike(other: str, ranks: dict[str, int], rank: int) -> str:
    """The word of a rank that shares most with its opposite: totally agree, totally disagree."""
    shared = set(wording.plainly(other).split())
    words = [word for word, own in ranks.items() if own == rank]
    best = max(words, key=lambda word: len(shared & set(word.split())))
    return best.capitalize() if other[:1].isupper() else best
