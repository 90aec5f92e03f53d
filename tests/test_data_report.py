"""The data report as a stage."""

from photos import encoded, mirrored, photo, photo_shards


def test_a_page_from_shards_alone(stage_of, project, capsys):
    rows = [("train", name, encoded(photo(i))) for i, name in enumerate("aabb")]
    rows += [("test", name, encoded(photo(i))) for i, name in enumerate("xyy", 10)]
    rows.append(("test", "x", mirrored(photo(10))))
    photo_shards(project / "data/shards/folder", rows)
    for flip, copies in (("true", 2), ("false", 0)):
        stage_of("data_report", f"dataset.augment.flip={flip}")
        said = capsys.readouterr().out
        assert f"data_report: {copies} test images with a copy in their own class" in said
        assert "open data_report/index.html" in said
        table = (project / "data_report/duplicates.csv").read_text().splitlines()
        assert len(table) == 1 + copies
        assert (project / "data_report/index.html").read_text().startswith("<!doctype html>")


def test_without_shards_one_sentence(refused):
    assert "run the preprocess stage first" in refused("data_report")
