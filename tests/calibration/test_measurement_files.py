"""Laws of the readers of foreign files."""

import gzip

import numpy as np
import pytest
from recorded import write_decodes, write_prefills

from calibration.recordings import rows
from calibration.sources.csv_table import read_table
from calibration.sources.edgereasoning import read_decodes, read_prefills
from calibration.sources.llamabench import read_speeds
from calibration.sources.power_bench import idle_and_busy_w, read_kernel_span, read_meter, read_nvml

COLUMNS = {"name": "text", "tokens": "integer", "time": "number", "power": "number or blank"}


def test_a_table_is_read_by_column_names_plain_or_gzipped(tmp_path):
    """Order of columns, columns not asked for and compression do not matter; a blank number is NaN."""
    text = "time,extra,name,tokens,power\n1.5,x,a,3,\n2,y,b,4,7.5\n"
    (tmp_path / "t.csv").write_text(text)
    (tmp_path / "t.csv.gz").write_bytes(gzip.compress(text.encode()))
    for file in ("t.csv", "t.csv.gz"):
        table = read_table(tmp_path / file, COLUMNS)
        assert table["name"].tolist() == ["a", "b"]
        assert table["tokens"].tolist() == [3, 4]
        assert table["time"].tolist() == [1.5, 2.0]
        assert np.isnan(table["power"][0])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", r"no column 'name', found nothing"),
        ("nam,tokens,time,power\n", r"no column 'name'.*is it 'nam'\?"),
        ("name,tokens,time,power\n", r"no rows"),
        ("name,tokens,time,power\na,1,1,1\nb,x,1,1\n", r"row 3: tokens is 'x', must be a whole number"),
        ("name,tokens,time,power\na,1.5,1,1\n", r"row 2: tokens is '1\.5'"),
        ("name,tokens,time,power\na,-1,1,1\n", r"row 2: tokens is '-1'"),
        ("name,tokens,time,power\na,1,,1\n", r"row 2: time is '', must be a finite number"),
        ("name,tokens,time,power\na,1,nan,1\n", r"row 2: time is 'nan'"),
        ("name,tokens,time,power\na,1,inf,1\n", r"row 2: time is 'inf'"),
        ("name,tokens,time,power\na,1,1,watt\n", r"row 2: power is 'watt', must be a finite number or nothing"),
        ("name,tokens,time,power\n,1,1,1\n", r"row 2: name is '', must be text"),
        ("name,tokens,time,power\n\na,1,1,1\n", r"row 2: found 0 cells, must be 4"),
        ("name,tokens,time,power\na,1,1,1\na,1,1\n\n", r"row 3: found 3 cells, must be 4"),
    ],
)
def test_a_bad_table_is_refused_by_file_and_row(text, message, tmp_path):
    """One ValueError names the file, the row as an editor counts it, the column, the finding and what is allowed."""
    (tmp_path / "bad.csv").write_text(text)
    with pytest.raises(ValueError, match=r"bad\.csv.*" + message):
        read_table(tmp_path / "bad.csv", COLUMNS)


@pytest.mark.parametrize("content", [b"\xff\xfe\x00", gzip.compress(b"name\n" * 999, mtime=0)[:20]])
def test_what_is_no_table_is_refused_by_name(content, tmp_path):
    """Foreign bytes, a cut archive and a missing file are ValueErrors with the file's name."""
    path = tmp_path / ("cut.csv.gz" if content[:2] == b"\x1f\x8b" else "cut.csv")
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"cut\.csv.*cannot be read"):
        read_table(path, COLUMNS)
    with pytest.raises(ValueError, match=r"absent\.csv: cannot be read"):
        read_table(tmp_path / "absent.csv", COLUMNS)


def test_edgereasoning_units_become_si(tmp_path):
    """Milliseconds become seconds, blank powers NaN, and the file's hash is kept."""
    prefills = read_prefills(write_prefills(tmp_path / "prefill.csv"))
    assert prefills.seconds[0] == pytest.approx(0.08 + 0.0008 * 129 + 4e-8 * 129**2)
    assert len(prefills.source.sha256) == 64
    decodes = read_decodes(write_decodes(tmp_path / "decode.csv"))
    assert np.isnan(decodes.final_power_w[decodes.output_tokens == 1]).all()
    assert rows(decodes, decodes.output_tokens == 1).seconds.tolist() == [0.0] * 8


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ((",1,129,", ",2,129,"), r"row 2: found batch 2"),
        ((",1,129,", ",1,0,"), r"row 2: found batch 1, 0 prompt tokens"),
    ],
)
def test_impossible_prefills_are_refused(change, message, tmp_path):
    """A batch or an empty prompt is no lone prefill."""
    path = write_prefills(tmp_path / "prefill.csv")
    path.write_text(path.read_text().replace(*change, 1))
    with pytest.raises(ValueError, match=r"prefill\.csv, " + message):
        read_prefills(path)


def test_impossible_decodes_are_refused(tmp_path):
    """A generation has at least one token."""
    path = write_decodes(tmp_path / "decode.csv")
    path.write_text(path.read_text().replace(",128,16,", ",128,0,", 1))
    with pytest.raises(ValueError, match=r"decode\.csv, row 3: found 128 prompt tokens, 0 output tokens"):
        read_decodes(path)


def test_power_is_read_before_and_on_the_plateau_of_a_kernel(tmp_path):
    """A step from 50 to 380 W reads as 50 W idle and 380 W busy, whatever happens while it settles."""
    at_s = np.arange(0.0, 10.0, 0.01)
    power_w = np.select([at_s < 2, at_s < 2.5, at_s < 8], [50.0, 600.0, 380.0], 70.0)
    (tmp_path / "nvml.csv").write_text(
        "t_s,utilization.gpu [%],power.draw [W]\n" + "".join(f"{t},0,{w}\n" for t, w in zip(at_s, power_w, strict=True))
    )
    (tmp_path / "kernel.csv").write_text("t_s\n2.0\n2.0\n8.0\n")
    span = read_kernel_span(tmp_path / "kernel.csv")
    assert idle_and_busy_w(read_nvml(tmp_path / "nvml.csv"), span) == (50.0, 380.0)
    (tmp_path / "kernel.csv").write_text("t_s\n2.0\n")
    with pytest.raises(ValueError, match=r"kernel\.csv: found 1 different times"):
        read_kernel_span(tmp_path / "kernel.csv")


def test_recorded_power_of_a_4090(data):
    """Idle and plateau as plotted: about 52 and 384 W by NVML, which reads under the external meter."""
    power = data / "power"
    span = read_kernel_span(power / "gpb_Transient_Response_4090_TR_kernel_timestamps.csv")
    idle_w, busy_w = idle_and_busy_w(read_nvml(power / "gpb_Transient_Response_4090_TR_nvml.csv.gz"), span)
    outer = idle_and_busy_w(read_meter(power / "gpb_Transient_Response_4090_TR_pmd_1ms.csv.gz"), span)
    assert (idle_w, busy_w) == (pytest.approx(51.9, abs=0.5), pytest.approx(384.5, abs=1.0))
    assert outer[0] > idle_w
    assert outer[1] > busy_w


def test_speeds_keep_what_did_not_fit_as_nan(data, tmp_path):
    """A model too large for a card has no speed, not speed 0; another phase is an error."""
    speeds = read_speeds(data / "measurements" / "llamabench_llama3_gpus.csv")
    assert np.isnan(speeds.tokens_per_s).any()
    assert np.nanmin(speeds.tokens_per_s) > 0
    (tmp_path / "l.csv").write_text(
        "device,model,quant,runtime,phase,n_tokens,tokens_per_s,oom\n4090,m,F16,llama.cpp,both,512,1,False\n"
    )
    with pytest.raises(ValueError, match=r"l\.csv, row 2: phase is 'both'"):
        read_speeds(tmp_path / "l.csv")
