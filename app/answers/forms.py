"""The forms of answer there are. One more costs a file that draws it, its name in `form`, and a line here."""

from app.answers.annotation_tools import to_cvat, to_label_studio
from app.answers.form import AnswerFormat
from app.answers.ids import ids_bytes, to_ids
from app.answers.masks import hf_bytes, runs_bytes, to_coco, to_hf
from app.answers.overlay import overlay_bytes, to_overlay
from app.answers.subject import CLASSES, MASKS, Form

FORMS = {
    AnswerFormat.JSON: Form("application/json"),
    AnswerFormat.PNG: Form("image/png"),
    AnswerFormat.IDS: Form("image/png", to_ids, CLASSES, peak_bytes=ids_bytes),
    AnswerFormat.ZIP: Form("application/zip"),
    AnswerFormat.NPZ: Form("application/x-npz"),
    AnswerFormat.OVERLAY: Form("image/png", to_overlay, needs_photo=True, peak_bytes=overlay_bytes),
    AnswerFormat.HF: Form("application/json", to_hf, MASKS, peak_bytes=hf_bytes),
    AnswerFormat.COCO: Form("application/json", to_coco, MASKS, peak_bytes=runs_bytes),
    AnswerFormat.LABEL_STUDIO: Form("application/json", to_label_studio, MASKS, peak_bytes=runs_bytes),
    AnswerFormat.CVAT: Form("application/json", to_cvat, MASKS, peak_bytes=runs_bytes),
    AnswerFormat.V2: Form("application/octet-stream"),
}
