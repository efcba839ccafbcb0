"""A caller that knows the API by its generated client alone: one document, from its upload to a search in its index.

Type-checked strictly against the client, then run: API, KEY and DOMAIN name the server, a key and a domain.
"""

import os
from io import BytesIO
from typing import TypeVar

from rag_indexer_client import AuthenticatedClient
from rag_indexer_client.api.files import delete_file, download_file, list_files, upload_file
from rag_indexer_client.api.indexes import (
    build_index,
    create_index,
    get_status,
    link_file,
    list_indexes,
    list_provider_files,
    search_index,
)
from rag_indexer_client.api.jobs import get_job, list_jobs
from rag_indexer_client.models import (
    BuildPlan,
    BuiltIndex,
    File,
    Index,
    IndexFile,
    IndexingStatus,
    IndexStatus,
    Job,
    JobState,
    ListJobsState,
    NewIndexIn,
    PageFile,
    PageIndex,
    PageJob,
    Problem,
    ProviderFiles,
    Search,
    SearchResult,
    StaticChunking,
    StaticChunkingType,
    StaticSizes,
    UploadForm,
)
from rag_indexer_client.types import File as Contents

T = TypeVar("T")


def an(kind: type[T], answer: object) -> T:
    """The answer, which must be of this kind."""
    if not isinstance(answer, kind):
        raise SystemExit(f"not a {kind.__name__}: {answer!r}")
    return answer


def main() -> None:
    client = AuthenticatedClient(base_url=os.environ["API"], token=os.environ["KEY"])
    domain = os.environ["DOMAIN"]
    text = b"Every employee has 30 days of paid leave a year."

    strategy = StaticChunking(
        type_=StaticChunkingType.STATIC,
        static=StaticSizes(max_chunk_size_tokens=400, chunk_overlap_tokens=100),
    )
    form = UploadForm(
        file=Contents(payload=BytesIO(text), file_name="отпуск.md"),
        tags=["hr", "2026"],
        notes="from the handbook",
        chunking_strategy=strategy,
    )
    file = an(File, upload_file.sync(client=client, body=form, x_domain_id=domain))
    assert (file.file_name, file.size_bytes, file.tags) == ("отпуск.md", len(text), ["hr", "2026"])
    assert isinstance(file.chunking_strategy, StaticChunking), file.chunking_strategy
    contents = an(Contents, download_file.sync(file.id, client=client, x_domain_id=domain))
    assert contents.payload.read() == text

    new = NewIndexIn(name="handbook", provider_type="openai")
    index = an(Index, create_index.sync(client=client, body=new, x_domain_id=domain))
    assert index.indexing_status is IndexingStatus.NOT_INDEXED and index.external_id is None
    linked = an(IndexFile, link_file.sync(index.id, file.id, client=client, x_domain_id=domain))
    assert linked.file.id == file.id

    plan = an(BuildPlan, build_index.sync(index.id, client=client, dry_run=True, x_domain_id=domain))
    assert [upload.file_id for upload in plan.upload] == [file.id], plan
    built = build_index.sync(index.id, client=client, prefer="wait=30", x_domain_id=domain)
    done = an(BuiltIndex, built)
    assert done.indexing_status is IndexingStatus.DONE and done.job.state is JobState.DONE, done
    status = an(IndexStatus, get_status.sync(index.id, client=client, x_domain_id=domain))
    assert (status.file_counts.total, status.file_counts.completed, status.job) == (1, 1, None)
    copies = an(ProviderFiles, list_provider_files.sync(index.id, client=client, x_domain_id=domain))
    assert copies.items[0].status == "completed", copies

    found = an(SearchResult, search_index.sync(index.id, client=client, body=Search(query="leave"), x_domain_id=domain))
    assert found.items[0].file_id == file.id, found
    jobs = an(PageJob, list_jobs.sync(client=client, state=ListJobsState.DONE, limit=1, x_domain_id=domain))
    job = an(Job, get_job.sync(jobs.items[0].id, client=client, x_domain_id=domain))
    assert job.index_id == index.id and job.progress is not None and job.progress.files_completed == 1
    assert an(PageFile, list_files.sync(client=client, tag="hr", x_domain_id=domain)).items[0].id == file.id
    assert an(PageIndex, list_indexes.sync(client=client, x_domain_id=domain)).next_cursor is None

    elsewhere = an(Problem, delete_file.sync(file.id, client=client, x_domain_id="another"))
    assert (elsewhere.status, elsewhere.type_) == (404, "not-found")


if __name__ == "__main__":
    main()
