from pathlib import Path

import pytest

from ecan_core.corpora.recipes import LAYOUTS
from ecan_core.labels import EMOTIONS

KNOWN = [
    ("emodb", "wav/03a01Fa.wav", "03", "happiness"),
    ("emodb", "16b10Wb.wav", "16", "anger"),
    ("emodb", "wav/08a02La.wav", "08", "boredom"),
    ("emodb", "wav/11b02Ec.wav", "11", "disgust"),
    ("emodb", "wav/10a05Aa.flac", "10", "fear"),
    ("emodb", "wav/15a05Tb.wav", "15", "sadness"),
    ("emodb", "wav/14a07Na.wav", "14", "neutral"),
    ("emovo", "f1/dis-f1-b1.wav", "f1", "disgust"),
    ("emovo", "m3/gio-m3-l4.wav", "m3", "happiness"),
    ("emovo", "EMOVO/m2/rab-m2-n5.wav", "m2", "anger"),
    ("emovo", "pau-f2-d1.wav", "f2", "fear"),
    ("emovo", "f3/neu-f3-l1.wav", "f3", "neutral"),
    ("emovo", "f3/tri-f3-l1.wav", "f3", "sadness"),
    ("emovo", "f3/sor-f3-l1.wav", "f3", "surprise"),
    ("enterface", "subject 1/anger/sentence 1/s1_an_1.wav", "1", "anger"),
    ("enterface", "subject 6/sadness/s6_sa_5.wav", "6", "sadness"),
    ("enterface", "subject-44/surprise/sentence-5/s44_su_5.wav", "44", "surprise"),
    ("enterface", "subject 3/happiness/sentence 2/s_3_ha_2.wav", "3", "happiness"),
    ("enterface", "flat/s12_di_3.wav", "12", "disgust"),
    ("enterface", "s7_fe_1.wav", "7", "fear"),
    ("casia", "liuchanhg/angry/201.wav", "liuchanhg", "anger"),
    ("casia", "CASIA/ZhaoZuoxiang/Surprise/250.wav", "ZhaoZuoxiang", "surprise"),
    ("casia", "wangzhe/fear/1.wav", "wangzhe", "fear"),
    ("casia", "wangzhe/sad/1.wav", "wangzhe", "sadness"),
    ("ravdess", "Actor_01/03-01-01-01-01-01-01.wav", "01", "neutral"),
    ("ravdess", "Audio_Speech_Actors_01-24/Actor_24/03-01-02-02-01-01-24.wav", "24", "calm"),
    ("ravdess", "Actor_24/03-01-08-02-01-01-24.wav", "24", "surprise"),
    ("ravdess", "Actor_24/03-01-07-02-01-01-24.wav", "24", "disgust"),
    ("cremad", "AudioWAV/1001_DFA_ANG_XX.wav", "1001", "anger"),
    ("cremad", "AudioWAV/1040_ITH_SAD_X.wav", "1040", "sadness"),
    ("cremad", "1091_IEO_HAP_HI.wav", "1091", "happiness"),
    ("nemo", "samples/EB0_anger_1.wav", "EB0", "anger"),
    ("nemo", "samples/TP0_surprised_26.wav", "TP0", "surprise"),
    ("savee", "DC/a01.wav", "DC", "anger"),
    ("savee", "AudioData/KL/su15.wav", "KL", "surprise"),
    ("savee", "ALL/JE_sa09.wav", "JE", "sadness"),
    ("savee", "JK_n30.wav", "JK", "neutral"),
    ("tess", "OAF_angry/OAF_back_angry.wav", "OA", "anger"),
    ("tess", "YAF_pleasant_surprised/YAF_youth_ps.wav", "YA", "surprise"),
    ("tess", "OAF_neutral/OA_bite_neutral.wav", "OA", "neutral"),
    ("urdu", "Angry/SM1_F1_A01.wav", "SM1", "anger"),
    ("urdu", "Neutral/SF12_F2_N01.wav", "SF12", "neutral"),
    ("turev", "Calm/1157_kz_acayip.wav", "1157", "calm"),
    ("turev", "Happy/6783_eg_ufuk.wav", "6783", "happiness"),
]

UNKNOWN = [
    ("emodb", "wav/03a01Xa.wav"),
    ("emodb", "wav/copy of 03a01Fa.wav"),
    ("emovo", "f1/xyz-f1-b1.wav"),
    ("enterface", "subject 1/joy/sentence 1/x.wav"),
    ("enterface", "s1_ne_1.wav"),
    ("casia", "angry/201.wav"),
    ("ravdess", "Actor_01/03-02-03-01-01-01-01.wav"),
    ("ravdess", "Actor_01/01-01-03-01-01-01-01.wav"),
    ("ravdess", "Actor_01/03-01-09-01-01-01-01.wav"),
    ("cremad", "AudioWAV/1001_DFA_SUR_XX.wav"),
    ("nemo", "samples/EB0_joy_1.wav"),
    ("savee", "XX/a01.wav"),
    ("savee", "DC/b01.wav"),
    ("tess", "OAF_back_calm.wav"),
    ("urdu", "Angry/noise.wav"),
    ("urdu", "SM1_F1_A01.wav"),
    ("turev", "Angry/noise.wav"),
]


@pytest.mark.parametrize(("recipe", "path", "speaker", "label"), KNOWN)
def test_a_path_in_the_layout_tells_speaker_and_label(recipe: str, path: str, speaker: str, label: str) -> None:
    name = LAYOUTS[recipe].parse(Path(path))
    assert name is not None
    assert (name.speaker, name.label) == (speaker, label)


@pytest.mark.parametrize(("recipe", "path"), UNKNOWN)
def test_a_path_outside_the_layout_tells_nothing(recipe: str, path: str) -> None:
    assert LAYOUTS[recipe].parse(Path(path)) is None


def test_every_recipe_has_a_known_path() -> None:
    assert {recipe for recipe, *_ in KNOWN} == set(LAYOUTS)


@pytest.mark.parametrize("recipe", LAYOUTS)
def test_every_code_means_an_emotion(recipe: str) -> None:
    assert set(LAYOUTS[recipe].codes.values()) <= set(EMOTIONS)


@pytest.mark.parametrize(
    ("recipe", "one", "other", "same"),
    [
        ("ravdess", "a/03-01-05-01-01-01-01.wav", "b/Actor_01/03-01-05-01-01-01-01.wav", True),
        ("emodb", "wav/03a01Fa.wav", "flac/03a01Fa.flac", True),
        ("savee", "DC/a01.wav", "ALL/DC_a01.wav", True),
        ("casia", "x/wangzhe/angry/201.wav", "wangzhe/angry/201.wav", True),
        ("casia", "wangzhe/angry/201.wav", "liuchanhg/angry/201.wav", False),
        ("casia", "wangzhe/angry/201.wav", "wangzhe/happy/201.wav", False),
        ("emodb", "wav/03a01Fa.wav", "wav/03a01Fb.wav", False),
    ],
)
def test_copies_of_a_recording_have_one_key(recipe: str, one: str, other: str, same: bool) -> None:
    first, second = LAYOUTS[recipe].parse(Path(one)), LAYOUTS[recipe].parse(Path(other))
    assert first is not None
    assert second is not None
    assert (first.key == second.key) is same
